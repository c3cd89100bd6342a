package release

import (
	"reflect"
	"strings"
	"testing"
)

func modules(pairs ...string) []Module {
	var all []Module
	for _, p := range pairs {
		path, version, _ := strings.Cut(p, "@")
		all = append(all, Module{Path: path, Version: version})
	}
	return all
}

func TestComparisonNamesEachModuleThatChanged(t *testing.T) {
	a := &Build{Go: "go1.25.1", Module: Module{Path: "example.com/a", Version: "v1.0.0"}, Modules: modules("m/gone@v1.0.0", "m/same@v1.0.0", "m/up@v1.0.0", "m/forked@v1.0.0", "m/forged@v1.0.0")}
	b := &Build{Go: "go1.26.0", Module: Module{Path: "example.com/a", Version: "v1.1.0"}, Modules: modules("m/new@v0.1.0", "m/same@v1.0.0", "m/up@v2.0.0", "m/forked@v1.0.0", "m/forged@v1.0.0")}
	b.Modules[3].Replace = "m/fork@v1.0.1"
	a.Modules[4].Sum, b.Modules[4].Sum = "h1:a", "h1:b"
	want := Difference{
		Go: &Change{"go1.25.1", "go1.26.0"}, Added: modules("m/new@v0.1.0"), Removed: modules("m/gone@v1.0.0"),
		Changed: []ModuleChange{
			{"example.com/a", Change{"v1.0.0", "v1.1.0"}},
			{"m/forged", Change{"v1.0.0 h1:a", "v1.0.0 h1:b"}},
			{"m/forked", Change{"v1.0.0", "v1.0.0 => m/fork@v1.0.1"}},
			{"m/up", Change{"v1.0.0", "v2.0.0"}},
		},
	}
	if got := Compare(a, b); !reflect.DeepEqual(got, want) {
		t.Errorf("difference %+v, want %+v", got, want)
	}
	if d := Compare(a, a); !d.IsZero() || !Compare(nil, nil).IsZero() {
		t.Errorf("a build differs from itself: %+v", d)
	}
	if d := Compare(nil, a); len(d.Added) != 6 || d.Go == nil || d.IsZero() {
		t.Errorf("against an unknown build: %+v", d)
	}
}

func TestPluginThatSpeaksAnotherProtocolThanItsHostIsFound(t *testing.T) {
	for name, c := range map[string]struct {
		host, plugin                    string
		modules                         []string
		conflict, incompatible, unknown bool
	}{
		"same":                         {"google.golang.org/grpc@v1.70.0", "google.golang.org/grpc@v1.70.0", nil, false, false, false},
		"another minor":                {"google.golang.org/grpc@v1.70.0", "google.golang.org/grpc@v1.60.0", nil, true, false, false},
		"another minor before 1.0":     {"github.com/perennial-go/perennial@v0.3.0", "github.com/perennial-go/perennial@v0.4.0", nil, true, true, false},
		"another patch before 1.0":     {"github.com/perennial-go/perennial@v0.3.0", "github.com/perennial-go/perennial@v0.3.1", nil, true, false, false},
		"from 0.x to 1.0":              {"github.com/hashicorp/go-plugin@v0.9.0", "github.com/hashicorp/go-plugin@v1.0.0", nil, true, true, false},
		"another major, another path":  {"example.com/proto@v1.4.0", "example.com/proto/v2@v2.0.0", []string{"example.com/proto"}, true, true, false},
		"module given with its suffix": {"example.com/proto/v3@v3.4.0", "example.com/proto/v2@v2.0.0", []string{"example.com/proto/v2"}, true, true, false},
		"gopkg.in":                     {"gopkg.in/proto.v1@v1.4.0", "gopkg.in/proto.v2@v2.0.0", []string{"gopkg.in/proto.v1"}, true, true, false},
		"incompatible suffix":          {"example.com/proto@v1.4.0", "example.com/proto@v4.0.0+incompatible", []string{"example.com/proto"}, true, true, false},
		"only the host":                {"google.golang.org/grpc@v1.70.0", "x@v1.0.0", nil, false, false, false},
		"no protocol module":           {"x@v1.0.0", "x@v2.0.0", nil, false, false, false},
		"other modules asked for":      {"google.golang.org/grpc@v1.0.0", "google.golang.org/grpc@v2.0.0", []string{"x"}, false, false, false},
		"devel":                        {"github.com/perennial-go/perennial@(devel)", "github.com/perennial-go/perennial@v0.4.0", nil, true, false, true},
		"devel on both sides":          {"github.com/perennial-go/perennial@(devel)", "github.com/perennial-go/perennial@(devel)", nil, true, false, true},
	} {
		got := Conflicts(&Build{Modules: modules(c.host)}, &Build{Modules: modules(c.plugin)}, c.modules)
		if (len(got) == 1) != c.conflict || len(got) > 0 && (got[0].Incompatible != c.incompatible || (got[0].Unknown != "") != c.unknown) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	// The main module of a plugin may be the protocol itself.
	host := &Build{Modules: modules("github.com/perennial-go/perennial@v1.0.0")}
	plugin := &Build{Module: Module{Path: "github.com/perennial-go/perennial", Version: "v2.0.0"}}
	if got := Conflicts(host, plugin, nil); len(got) != 1 || !got[0].Incompatible {
		t.Errorf("main module: %+v", got)
	}
	replaced := &Build{Modules: []Module{{Path: "google.golang.org/grpc", Version: "v1.70.0", Replace: "example.com/fork@v2.0.0"}}}
	if got := Conflicts(&Build{Modules: modules("google.golang.org/grpc@v1.70.0")}, replaced, nil); len(got) != 1 || !got[0].Incompatible {
		t.Errorf("what stands in for a module is what counts: %+v", got)
	}
}

func TestAdmissionSaysByWhichRule(t *testing.T) {
	for _, c := range []struct {
		running, target string
		policy          Policy
		requires        Requires
		rollback        bool
		want            string
	}{
		{"1.0.0", "1.1.0", Policy{}, Requires{}, false, "newer than 1.0.0, same major version"},
		{"1.0.0", "2.0.0-rc.1", Policy{AllowMajor: true, AllowPrerelease: true}, Requires{}, false,
			"newer than 1.0.0, another major version, which the policy allows, a pre-release, which the policy allows"},
		{"1.0.0", "1.1.0", Policy{}, Requires{Upgrade: ">=1.0.0", PluginAPI: "1", ConfigSchema: "<3"}, false,
			"newer than 1.0.0, same major version; requires.upgrade >=1.0.0 holds for 1.0.0; requires.plugin_api 1 holds for 1.2.0; requires.config_schema <3 holds for 2.0.0"},
		{"1.2.0", "1.1.0", Policy{}, Requires{Upgrade: ">=9"}, true, "retained on this host and asked for by an operator"},
		{"1.2.0", "1.1.0", Policy{}, Requires{}, false, ""},
		{"1.0.0", "1.1.0", Policy{}, Requires{Upgrade: ">=1.1.0"}, false, ""},
	} {
		running, err := ParseVersion(c.running)
		if err != nil {
			t.Fatal(err)
		}
		rule, err := Admit(c.policy, running, &Manifest{Version: c.target, Requires: c.requires}, PolicyContext{Rollback: c.rollback, PluginAPI: "1.2.0", ConfigSchema: "2.0.0"})
		if rule != c.want || (err == nil) != (c.want != "") {
			t.Errorf("from %s to %s: %q, %v; want %q", c.running, c.target, rule, err, c.want)
		}
	}
}
