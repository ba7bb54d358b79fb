// Package service has "coordctl service": the service registry.
package service
