package release

import (
	"fmt"
	"slices"
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
	if err := b.bounded(); err != nil {
		return fmt.Errorf("build: %w", err)
	}
	return nil
}

// date fills in when the release was built and of what: as it was given, else
// what all binaries agree on, so that the same binaries make the same
// manifest, else now.
func (m *Manifest) date(created, now time.Time) {
	commit, agreed := m.commit()
	if m.Revision == "" && agreed {
		if m.Revision = commit.Revision; commit.Modified {
			m.Revision += "+dirty"
		}
	}
	if created.IsZero() && agreed && !commit.Modified {
		created = commit.Time
	}
	if created.IsZero() {
		created = now
	}
	m.Created = created.UTC().Truncate(time.Second)
}

// commit is what all binaries were built from; false if they differ, or one
// does not tell.
func (m *Manifest) commit() (Build, bool) {
	var found *Build
	for _, p := range m.Platforms {
		b := p.Build
		if b == nil || b.Revision == "" {
			return Build{}, false
		}
		if found != nil && (b.Revision != found.Revision || !b.Time.Equal(found.Time) || b.Modified != found.Modified) {
			return Build{}, false
		}
		found = b
	}
	if found == nil {
		return Build{}, false
	}
	return *found, true
}

// forgetBuilds takes from m what the manifest of the same release, published
// by a release that did not read builds, does not tell.
func (m *Manifest) forgetBuilds(known *Manifest) {
	m.Platforms = slices.Clone(m.Platforms) // m is a copy, its platforms are not
	for i := range m.Platforms {
		k, err := known.Platform(m.Platforms[i].OS, m.Platforms[i].Arch)
		if err != nil || k.Build != nil {
			continue
		}
		if m.Platforms[i].Build = nil; known.Revision == "" {
			m.Revision = ""
		}
	}
}
