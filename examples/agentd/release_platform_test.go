package main

import (
	le "encoding/binary"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// elfFile writes the header of an executable that is not of Go.
func elfFile(t *testing.T, machine uint16) string {
	t.Helper()
	h := make([]byte, 64)
	copy(h, "\x7fELF\x02\x01\x01")
	le.LittleEndian.PutUint16(h[16:], 2)
	le.LittleEndian.PutUint16(h[18:], machine)
	le.LittleEndian.PutUint32(h[20:], 1)
	le.LittleEndian.PutUint16(h[52:], 64)
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, h, 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestExecutableOfAnotherPlatformIsNotPublished(t *testing.T) {
	const amd64, arm64, unheardOf = 62, 183, 0x1234
	s := newShelf(t)
	other := map[string]string{"amd64": "arm64", "arm64": "amd64"}[runtime.GOARCH]
	if other == "" {
		other = "amd64"
	}
	goFile := binary(t, "1.0.0")
	for name, c := range map[string]struct {
		platform, path string
		says           []string // nothing: it is published
	}{
		"of Go, other architecture":   {runtime.GOOS + "/" + other, goFile, []string{"--platform", other, runtime.GOOS + "/" + runtime.GOARCH}},
		"of Go, other system":         {"plan9/" + runtime.GOARCH, goFile, []string{"plan9", runtime.GOOS + "/" + runtime.GOARCH}},
		"ELF, other architecture":     {"linux/arm64", elfFile(t, amd64), []string{"want an executable for linux/arm64", "amd64", "ELF"}},
		"ELF, other system":           {"windows/arm64", elfFile(t, arm64), []string{"windows/arm64", "ELF", "linux"}},
		"ELF as it should be":         {"freebsd/arm64", elfFile(t, arm64), nil},
		"ELF of a machine to come":    {"linux/loong64", elfFile(t, unheardOf), nil},
		"half a platform":             {"linux/", elfFile(t, amd64), []string{"os/arch"}},
		"of Go and another's version": {runtime.GOOS + "/" + runtime.GOARCH, binary(t, "1.1.0"), []string{"1.1.0", "-ldflags"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := *s
			s.t, s.repo = t, filepath.Join(t.TempDir(), "repo")
			r := s.publish("build", "--plain", "--version", "1.0.0", "--platform", c.platform, c.path)
			if c.says == nil {
				r.ok(t)
				return
			}
			code := 1
			if name == "half a platform" {
				code = 2
			}
			r.fails(t, code, c.says...)
			if _, err := os.Stat(s.repo); err == nil {
				t.Error("something was written")
			}
		})
	}
}
