// Package cfg has "coordctl cfg": shared configuration, its versions, schemas and what its clients made of it.
package cfg
