package fingerprint

import (
	"bytes"
	"debug/buildinfo"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/perennial-go/perennial/internal/cgroup"
)

const (
	// maxFile bounds what is read of a text file, maxLibrary of libc, maxBinary how
	// large an executable may be that is looked into.
	maxFile    = 256 << 10
	maxLibrary = 8 << 20
	maxBinary  = 256 << 20
)

// read returns the beginning of a regular file below the root, or of one of
// /proc; nil if there is none.
func (p *prober) read(path string, limit int64) []byte {
	full := filepath.Join(p.root, path)
	info, err := os.Stat(full)
	if err != nil || !info.Mode().IsRegular() { // a pipe could be waited for
		return nil
	}
	f, err := os.Open(full)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, limit))
	if err != nil {
		return nil
	}
	return data
}

func (p *prober) exists(path string) bool {
	_, err := os.Stat(filepath.Join(p.root, path))
	return err == nil
}

// host finds kernel, distribution, libc and version of cgroups.
func (p *prober) host() {
	p.Kernel = text(string(p.read("proc/sys/kernel/osrelease", maxFile)))
	release := assignments(p.read("etc/os-release", maxFile))
	if len(release) == 0 {
		release = assignments(p.read("usr/lib/os-release", maxFile))
	}
	p.OS = text(release["ID"] + " " + release["VERSION_ID"])
	p.Libc = text(p.libc())
	p.Cgroup = hierarchies(p.read("proc/self/mountinfo", maxFile))
}

// assignments are the lines of NAME=value or NAME="value".
func assignments(data []byte) map[string]string {
	all := map[string]string{}
	for line := range strings.Lines(string(data)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			all[name] = strings.Trim(value, `"'`)
		}
	}
	return all
}

// hierarchies tells which versions of cgroups are mounted.
func hierarchies(mounts []byte) string {
	var v1, v2 bool
	for m := range cgroup.Mounts(mounts) {
		v1, v2 = v1 || m.Type == "cgroup", v2 || m.Type == "cgroup2"
	}
	switch {
	case v1 && v2:
		return "hybrid"
	case v1:
		return "v1"
	case v2:
		return "v2"
	}
	return ""
}

// libc finds the C library by its files: to ask it would take running a program.
func (p *prober) libc() string {
	for _, pattern := range []string{
		"lib/*-linux-*/libc.so.6", "lib64/libc.so.6", "usr/lib64/libc.so.6", "usr/lib/libc.so.6", "lib/libc.so.6",
	} {
		for _, path := range p.glob(pattern) {
			if _, rest, ok := bytes.Cut(p.read(path, maxLibrary), []byte("GNU C Library ")); ok {
				return "glibc " + glibcVersion(rest[:min(len(rest), maxText)])
			}
		}
	}
	if len(p.glob("lib/ld-musl-*.so.1")) > 0 {
		return "musl " + apkVersion(p.read("lib/apk/db/installed", maxLibrary), "musl")
	}
	return ""
}

func (p *prober) glob(pattern string) []string {
	found, err := filepath.Glob(filepath.Join(p.root, pattern))
	if err != nil {
		return nil
	}
	for i, path := range found {
		if found[i], err = filepath.Rel(p.root, path); err != nil {
			return nil
		}
	}
	return found
}

// glibcVersion is what libc says of itself, "(Debian GLIBC 2.36-9) stable release
// version 2.36.", without the rest.
func glibcVersion(banner []byte) string {
	_, rest, ok := strings.Cut(string(banner), "release version ")
	if !ok {
		return ""
	}
	end := strings.IndexFunc(rest, func(r rune) bool { return r != '.' && (r < '0' || r > '9') })
	if end < 0 {
		end = len(rest)
	}
	return strings.TrimRight(rest[:end], ".")
}

// apkVersion is that of a package in the database of Alpine's package manager.
func apkVersion(data []byte, name string) string {
	_, rest, ok := bytes.Cut(append([]byte("\n"), data...), []byte("\nP:"+name+"\n"))
	if !ok {
		return ""
	}
	for line := range strings.Lines(string(rest)) {
		if version, ok := strings.CutPrefix(line, "V:"); ok {
			return version
		}
		if line == "\n" {
			break
		}
	}
	return ""
}

// installedRunc reads the version that is written in runc's executable, a Go
// program; to ask it would take running it.
func (p *prober) installedRunc() string {
	for _, path := range []string{"usr/local/sbin/runc", "usr/local/bin/runc", "usr/sbin/runc", "usr/bin/runc"} {
		full := filepath.Join(p.root, path)
		info, err := os.Stat(full)
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		if info.Size() > maxBinary {
			return "unknown"
		}
		built, err := buildinfo.ReadFile(full)
		if err != nil {
			return "unknown"
		}
		for _, s := range built.Settings {
			if s.Key == "-ldflags" {
				if m := regexp.MustCompile(`main\.version=([0-9][0-9A-Za-z.+~-]*)`).FindStringSubmatch(s.Value); m != nil {
					return text(m[1])
				}
			}
		}
		if v := built.Main.Version; v != "" && v != "(devel)" {
			return text(strings.TrimPrefix(v, "v"))
		}
		return "unknown"
	}
	return ""
}
