package release

import (
	"cmp"
	"debug/buildinfo"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// maxBuildString bounds each text of a build, in bytes.
const maxBuildString = 1 << 10

// ErrNoBuild says that an executable tells nothing of its build: it is not
// written in Go, or was stripped of it.
var ErrNoBuild = errors.New("no build information of Go")

// ReadBuild reads from an executable what the Go linker recorded in it.
// Nothing is executed. Its error wraps ErrNoBuild for a file that holds no
// such record, or one that is larger than a manifest can hold.
func ReadBuild(path string) (b *Build, err error) {
	f, err := openBinary(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := buildinfo.Read(f)
	if err != nil {
		return nil, fmt.Errorf("%w in %s: %w", ErrNoBuild, path, err)
	}
	if b, err = buildOf(info); err != nil {
		return nil, fmt.Errorf("%w in %s: %w", ErrNoBuild, path, err)
	}
	return b, nil
}

// readBuild is ReadBuild for what may be no Go executable; nil then.
func readBuild(f *os.File) *Build {
	info, err := buildinfo.Read(f)
	if err != nil {
		return nil
	}
	b, err := buildOf(info)
	if err != nil {
		return nil
	}
	return b
}

// buildOf takes over what a manifest tells of a build.
func buildOf(info *debug.BuildInfo) (*Build, error) {
	b := &Build{Go: info.GoVersion, Package: info.Path, Module: moduleOf(&info.Main)}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.time":
			// One that cannot be read is as good as none.
			if t, err := time.Parse(time.RFC3339, s.Value); err == nil && t.Year() > 0 && t.Year() < 10_000 {
				b.Time = t.UTC().Truncate(time.Second)
			}
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	if len(info.Deps) > maxModules {
		return nil, fmt.Errorf("%d modules, at most %d are read", len(info.Deps), maxModules)
	}
	for _, m := range info.Deps {
		b.Modules = append(b.Modules, moduleOf(m))
	}
	slices.SortFunc(b.Modules, func(x, y Module) int {
		return cmp.Or(strings.Compare(x.Path, y.Path), strings.Compare(x.Version, y.Version))
	})
	return b, b.bounded()
}

func moduleOf(m *debug.Module) Module {
	if m == nil {
		return Module{}
	}
	out := Module{Path: m.Path, Version: m.Version, Sum: m.Sum}
	if r := m.Replace; r != nil {
		if out.Replace = r.Path; r.Version != "" && r.Version != "(devel)" { // a directory has none
			out.Replace += "@" + r.Version
		}
		out.Sum = cmp.Or(r.Sum, out.Sum)
	}
	return out
}

// bounded keeps a file from filling a manifest with text.
func (b *Build) bounded() error {
	texts := []string{b.Go, b.Package, b.Revision}
	for _, m := range append([]Module{b.Module}, b.Modules...) {
		texts = append(texts, m.Path, m.Version, m.Sum, m.Replace)
	}
	for _, text := range texts {
		if len(text) > maxBuildString || !printable(text) {
			return fmt.Errorf("%.60q is longer than %d bytes or not printable", text, maxBuildString)
		}
	}
	return nil
}

// printable keeps terminals safe from what people are shown.
func printable(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' })
}
