// Package contexts keeps clusters by name, and fills the global flags from wherever they can be given. It has "coordctl
// context".
package contexts
