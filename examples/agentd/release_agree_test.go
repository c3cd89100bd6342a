package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/upgrade/release"
)

func TestExecutablesOfOneReleaseThatWereBuiltOfDifferentThingsAreWarnedOf(t *testing.T) {
	module := func(path, version string) release.Module { return release.Module{Path: path, Version: version} }
	amd := &release.Build{Go: "go1.26.8", Package: "example.com/a", Revision: "01", Module: module("example.com/a", "v1.0.0"),
		Modules: []release.Module{module("example.com/x", "v1.1.0"), module("example.com/unix", "v1.0.0")}}
	same, other := *amd, *amd
	same.Modules = []release.Module{module("example.com/x", "v1.1.0"), module("example.com/windows", "v1.0.0")}
	if all := apart(amd, &same); len(all) > 0 {
		t.Errorf("modules of one platform alone are warned of: %q", all)
	}
	other.Package, other.Revision, other.Go = "example.com/b", "02", "go1.26.7"
	other.Modules = []release.Module{module("example.com/x", "v1.2.0")}
	all := strings.Join(apart(amd, &other), "; ")
	for _, want := range []string{"main package example.com/a and example.com/b", "commit 01 and 02", "toolchain go1.26.8 and go1.26.7", "module example.com/x v1.1.0 and v1.2.0"} {
		if !strings.Contains(all, want) {
			t.Errorf("want %q in %q", want, all)
		}
	}
	other.Modules = nil
	for path := range strings.FieldsSeq("a b c d e f g h") {
		amd.Modules, other.Modules = append(amd.Modules, module(path, "v1.0.0")), append(other.Modules, module(path, "v1.0.1"))
	}
	if all := apart(amd, &other); all[len(all)-1] != "and 3 modules more" {
		t.Errorf("not bounded: %q", all)
	}
}

// ported is a copy of an executable of Go that tells another architecture.
func ported(t *testing.T, path, arch string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	was := []byte("build\tGOARCH=" + runtime.GOARCH + "\n")
	now := []byte("build\tGOARCH=" + arch + "\n")
	if len(now) != len(was) || !bytes.Contains(data, was) {
		t.Skipf("%s cannot be made one for %s by another word in it", path, arch)
	}
	copied := filepath.Join(t.TempDir(), "ported")
	if err := os.WriteFile(copied, bytes.ReplaceAll(data, was, now), 0o600); err != nil {
		t.Fatal(err)
	}
	return copied
}

func TestReleaseBuildWarnsOfExecutablesOfTwoPrograms(t *testing.T) {
	s := newShelf(t)
	other, err := exec.LookPath("go") // a program of Go that is always there
	if err != nil {
		t.Fatal(err)
	}
	arch := map[bool]string{true: "amd64", false: "arm64"}[runtime.GOARCH == "arm64"]
	other = ported(t, other, arch)
	r := s.publish("build", "--plain", "--version", "1.0.0", binary(t, "1.0.0"), other).ok(t)
	if !strings.Contains(r.stderr, "WARNING: "+binary(t, "1.0.0")+" and "+other) || !strings.Contains(r.stderr, "main package github.com/perennial-go/perennial/examples/agentd and cmd/go") {
		t.Errorf("it says\n%s", r.stderr)
	}
	r = s.publish("build", "--plain", "--version", "1.1.0", binary(t, "1.1.0"), ported(t, binary(t, "1.1.0"), arch)).ok(t)
	if strings.Contains(r.stderr, "WARNING") {
		t.Errorf("of the same executable it says\n%s", r.stderr)
	}
}
