package main

import (
	"fmt"
	"strings"

	"github.com/perennial-go/perennial/upgrade/release"
)

// mostModules bounds how many modules one warning names.
const mostModules = 5

// disagreements says where the executables of one release were not built of
// the same: another main package, commit or toolchain, or other versions of a
// module. That a module is in some of them only is as it should be: platforms
// need different ones. Executables that do not tell are passed over.
func disagreements(binaries []release.Binary) []string {
	var warnings []string
	var first *release.Build
	var of string
	for _, b := range binaries {
		build, err := release.ReadBuild(b.Path)
		if err != nil {
			continue
		}
		if first == nil {
			first, of = build, b.Path
			continue
		}
		if all := apart(first, build); len(all) > 0 {
			warnings = append(warnings, fmt.Sprintf("WARNING: %s and %s, two platforms of one release, were built of different things: %s", of, b.Path, strings.Join(all, "; ")))
		}
	}
	return warnings
}

// apart lists in what two builds for different platforms differ.
func apart(a, b *release.Build) []string {
	var all []string
	for _, v := range []struct{ what, a, b string }{
		{"main package", a.Package, b.Package},
		{"commit", a.Revision, b.Revision},
		{"toolchain", a.Go, b.Go},
	} {
		if v.a != v.b {
			all = append(all, fmt.Sprintf("%s %s and %s", v.what, dash(v.a), dash(v.b)))
		}
	}
	changed := release.Compare(a, b).Changed
	for _, m := range changed[:min(len(changed), mostModules)] {
		all = append(all, fmt.Sprintf("module %s %s and %s", m.Path, dash(m.From), dash(m.To)))
	}
	if more := len(changed) - mostModules; more > 0 {
		all = append(all, fmt.Sprintf("and %d modules more", more))
	}
	return all
}
