package release

import (
	"fmt"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
)

// Difference is what one build has that another has not.
type Difference struct {
	// Go is set if the toolchains differ.
	Go *Change `json:"go,omitempty"`
	// Added, Removed and Changed are modules, by path; the main module is one
	// of them.
	Added   []Module       `json:"added,omitempty"`
	Removed []Module       `json:"removed,omitempty"`
	Changed []ModuleChange `json:"changed,omitempty"`
}

// Change is a value before and after.
type Change struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// ModuleChange is a module that both builds have.
type ModuleChange struct {
	Path string `json:"path"`
	Change
}

// IsZero reports whether the builds are of the same modules and toolchain.
func (d Difference) IsZero() bool {
	return d.Go == nil && len(d.Added)+len(d.Removed)+len(d.Changed) == 0
}

// Compare returns what changed from build a to build b. A nil build is one of
// which nothing is known: it has no modules.
func Compare(a, b *Build) Difference {
	var d Difference
	if from, to := goOf(a), goOf(b); from != to {
		d.Go = &Change{from, to}
	}
	before, after := a.all(), b.all()
	for _, m := range before {
		other, ok := find(after, m.Path)
		switch {
		case !ok:
			d.Removed = append(d.Removed, m)
		case m.describe() != other.describe():
			d.Changed = append(d.Changed, ModuleChange{m.Path, Change{m.describe(), other.describe()}})
		case m.Sum != "" && other.Sum != "" && m.Sum != other.Sum:
			d.Changed = append(d.Changed, ModuleChange{m.Path, Change{m.describe() + " " + m.Sum, other.describe() + " " + other.Sum}})
		}
	}
	for _, m := range after {
		if _, ok := find(before, m.Path); !ok {
			d.Added = append(d.Added, m)
		}
	}
	return d
}

func goOf(b *Build) string {
	if b == nil {
		return ""
	}
	return b.Go
}

// all lists the modules with the main one, by path.
func (b *Build) all() []Module {
	if b == nil {
		return nil
	}
	all := slices.Clone(b.Modules)
	if b.Module.Path != "" {
		all = append(all, b.Module)
	}
	slices.SortStableFunc(all, func(x, y Module) int { return strings.Compare(x.Path, y.Path) })
	return all
}

func find(modules []Module, path string) (Module, bool) {
	i := slices.IndexFunc(modules, func(m Module) bool { return m.Path == path })
	if i < 0 {
		return Module{}, false
	}
	return modules[i], true
}

// describe is the version, and what stands in for it.
func (m Module) describe() string {
	if m.Replace == "" {
		return m.Version
	}
	return m.Version + " => " + m.Replace
}

// ProtocolModules are the modules by which a host and a plugin talk to each
// other. A new slice each time.
func ProtocolModules() []string {
	return []string{
		"google.golang.org/protobuf",
		"google.golang.org/grpc",
		"github.com/hashicorp/go-plugin",
		"github.com/perennial-go/perennial",
	}
}

// Conflict is a protocol module of which a host and a plugin have different
// versions.
type Conflict struct {
	// Path is the module without its major version suffix.
	Path string `json:"path"`
	// Host and Plugin are the versions.
	Host   string `json:"host"`
	Plugin string `json:"plugin"`
	// Incompatible is true if SemVer promises nothing across the two: another
	// major version, or another minor version of 0.x.
	Incompatible bool `json:"incompatible"`
	// Unknown is why the two cannot be compared; empty if they can.
	Unknown string `json:"unknown,omitempty"`
}

// Conflicts returns the protocol modules, by path, of which host and plugin
// have different versions, the incompatible ones among them. Modules that only
// one of them has are none. Nil modules are ProtocolModules.
func Conflicts(host, plugin *Build, modules []string) []Conflict {
	if modules == nil {
		modules = ProtocolModules()
	}
	var all []Conflict
	for _, path := range modules {
		path = basePath(path)
		for _, h := range host.at(path) {
			for _, p := range plugin.at(path) {
				if c := compareModules(path, h, p); c != nil {
					all = append(all, *c)
				}
			}
		}
	}
	slices.SortStableFunc(all, func(x, y Conflict) int { return strings.Compare(x.Path, y.Path) })
	return all
}

// Has reports whether the build has the module, whatever its major version: the
// main module counts, and so does example.com/x/v2 where example.com/x is asked
// for. A nil build has none.
func (b *Build) Has(path string) bool { return len(b.at(basePath(path))) > 0 }

// at returns the modules of which path is the base.
func (b *Build) at(path string) []Module {
	var found []Module
	for _, m := range b.all() {
		if basePath(m.Path) == path {
			found = append(found, m)
		}
	}
	return found
}

// basePath is a module path without the suffix that tells its major version:
// example.com/x/v2 and gopkg.in/x.v2.
func basePath(path string) string {
	for _, separator := range []string{"/v", ".v"} {
		i := strings.LastIndex(path, separator)
		if i < 0 || separator == ".v" && !strings.HasPrefix(path, "gopkg.in/") {
			continue
		}
		if digits := path[i+2:]; digits != "" && strings.Trim(digits, "0123456789") == "" {
			return path[:i]
		}
	}
	return path
}

// compareModules returns nil for two that are the same.
func compareModules(path string, host, plugin Module) *Conflict {
	if host.Path == plugin.Path && host.describe() == plugin.describe() && host.Version != "(devel)" {
		return nil
	}
	c := &Conflict{Path: path, Host: host.describe(), Plugin: plugin.describe()}
	h, err := moduleVersion(host)
	p, pluginErr := moduleVersion(plugin)
	switch {
	case err != nil:
		c.Unknown = "host: " + err.Error()
	case pluginErr != nil:
		c.Unknown = "plugin: " + pluginErr.Error()
	default:
		c.Incompatible = h.Major() != p.Major() || h.Major() == 0 && h.Minor() != p.Minor()
	}
	return c
}

// moduleVersion is the version that is really linked in.
func moduleVersion(m Module) (*semver.Version, error) {
	version := m.Version
	if m.Replace != "" {
		_, replaced, ok := strings.Cut(m.Replace, "@")
		if !ok {
			return nil, fmt.Errorf("%s was replaced by the directory %s, which has no version", m.Path, m.Replace)
		}
		version = replaced
	}
	v, err := semver.StrictNewVersion(strings.TrimPrefix(version, "v"))
	if err != nil {
		return nil, fmt.Errorf("%s has version %q, which cannot be compared", m.Path, version)
	}
	return v, nil
}
