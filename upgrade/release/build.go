package release

import (
	"fmt"
	"time"
)

// maxModules bounds what a build lists.
const maxModules = 4096

// Build says what a Go executable was made of, as the Go linker recorded it
// in the file (debug/buildinfo). It is for people and for comparisons;
// nothing is decided on it.
type Build struct {
	// Go is the toolchain, such as "go1.26.8".
	Go string `json:"go"`
	// Package is the import path of the main package.
	Package string `json:"package,omitempty"`
	// Module is the main module.
	Module Module `json:"module,omitzero"`
	// Revision is the commit; empty in a build without version control.
	Revision string `json:"revision,omitempty"`
	// Time is when the commit was made, in UTC.
	Time time.Time `json:"time,omitzero"`
	// Modified tells a build from a tree with uncommitted changes.
	Modified bool `json:"modified,omitempty"`
	// Modules are the modules that were linked in, ordered by path.
	Modules []Module `json:"modules,omitempty"`
}

// Module is one module of a build.
type Module struct {
	// Path is the module's path.
	Path string `json:"path"`
	// Version is its version, "(devel)" for a main module without one.
	Version string `json:"version,omitempty"`
	// Sum is its go.sum hash.
	Sum string `json:"sum,omitempty"`
	// Replace is what stood in for it, as path@version; usually empty.
	Replace string `json:"replace,omitempty"`
}

func (b *Build) validate() error {
	if b == nil {
		return nil
	}
	if len(b.Modules) > maxModules {
		return fmt.Errorf("build lists %d modules, at most %d are read", len(b.Modules), maxModules)
	}
	return nil
}
