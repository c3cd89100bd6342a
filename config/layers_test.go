package config_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/config"
	"github.com/perennial-go/perennial/internal/etcdtest"
	"github.com/perennial-go/perennial/internal/waittest"
)

type layered struct {
	HTTP struct {
		Addr        string        `default:":80"`
		ReadTimeout time.Duration `yaml:"read_timeout" default:"30s"`
		Hosts       []string      `default:"[a, b]"`
	}
	Limits map[string]limit
	Token  config.Secret
	Proxy  string `env:"LAYERED_TEST_PROXY"`
}

type limit struct {
	Burst int `default:"10"`
	Rate  float64
}

func (l *limit) Validate() error {
	if l.Rate < 0 {
		return errors.New("rate: want 0 or more")
	}
	return nil
}

const layeredPrefix = "LAYERED_TEST_CONFIG_"

// runLayered runs a store of layered until the test's end.
func runLayered(t *testing.T, cfg config.Config[layered], src config.Source) *config.Store[layered] {
	t.Helper()
	store := newLayered(t, cfg)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- store.Run(ctx, src) }()
	t.Cleanup(func() {
		cancel()
		if err := waittest.Next(t, "Run returns", done); !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	})
	select {
	case <-store.Ready():
	case err := <-done:
		done <- context.Canceled
		t.Fatalf("Run: %v", err)
	case <-time.After(waittest.Patience):
		t.Fatal("no first configuration")
	}
	return store
}

func newLayered(t *testing.T, cfg config.Config[layered]) *config.Store[layered] {
	t.Helper()
	cfg.LoadTimeout, cfg.FilesEvery = waittest.Patience, 10*time.Millisecond
	store, err := config.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestEachLayerComesOverTheOneBelow: what applies must not depend on luck.
func TestEachLayerComesOverTheOneBelow(t *testing.T) {
	c := etcdtest.Start(t).Client(t)
	dir := t.TempDir()
	one, two, absent := filepath.Join(dir, "1.yaml"), filepath.Join(dir, "2.json"), filepath.Join(dir, "3.yaml")
	write(t, one, "http: {addr: from one, read_timeout: 1s, hosts: [one]}\nlimits: {x: {rate: 1}}\nproxy: one\n")
	write(t, two, `{"http": {"addr": "from two", "read_timeout": "2s"}}`)
	t.Setenv(layeredPrefix+"HTTP_READ_TIMEOUT", "3s")
	t.Setenv(layeredPrefix+"TOKEN", "123")
	t.Setenv(layeredPrefix+"LIMITS", "{y: {burst: 1}}")
	t.Setenv(layeredPrefix+"HTTP_ADDR", "")
	t.Setenv(layeredPrefix+"HTTP_ADRR", "misspelt")
	t.Setenv("LAYERED_TEST_PROXY", "by tag")
	group := publish(t, c, "group/web", "limits: {z: {rate: 3}}\nhttp: {hosts: null}")

	store := runLayered(t, config.Config[layered]{Files: []string{one, two, absent}, EnvPrefix: layeredPrefix},
		config.Source{Client: c, AgentID: "a1", Groups: []string{"web"}})
	var want layered
	want.HTTP.Addr, want.HTTP.ReadTimeout, want.HTTP.Hosts = "from two", 3*time.Second, []string{"a", "b"}
	want.Limits = map[string]limit{"x": {10, 1}, "y": {1, 0}, "z": {10, 3}}
	want.Token, want.Proxy = config.NewSecret("123"), "by tag"
	if got := store.Snapshot().Value; !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	s := store.Status()
	layers := []config.Layer{
		{Name: one}, {Name: two},
		{Name: "environment", Variables: []string{layeredPrefix + "HTTP_READ_TIMEOUT", layeredPrefix + "LIMITS", layeredPrefix + "TOKEN", "LAYERED_TEST_PROXY"}},
		{Name: "/agents/config/group/web", Revision: group},
	}
	if !reflect.DeepEqual(s.Layers, layers) {
		t.Errorf("layers %+v\nwant %+v", s.Layers, layers)
	}
	if len(s.Notes) != 1 || !strings.Contains(s.Notes[0], layeredPrefix+"HTTP_ADRR sets no field") {
		t.Errorf("want one note of the misspelt variable, got %q", s.Notes)
	}
	if s.RunningDigest != s.WantedDigest || len(s.RunningDigest) != len("sha256:")+64 || !s.EtcdSilentSince.IsZero() || s.RunningSince.IsZero() {
		t.Errorf("status %+v", s)
	}
}

// TestALocalFileIsFollowedAndABadOneChangesNothing.
func TestALocalFileIsFollowedAndABadOneChangesNothing(t *testing.T) {
	c := etcdtest.Start(t).Client(t)
	path, kept := filepath.Join(t.TempDir(), "local.yaml"), goodFile(t)
	write(t, path, "http: {addr: first}")
	cfg, src := config.Config[layered]{Files: []string{path}}, config.Source{Client: c, AgentID: "a1", File: kept}
	t.Run("while it runs", func(t *testing.T) {
		store := runLayered(t, cfg, src)
		addr := func(want string) {
			t.Helper()
			waittest.Until(t, want+" in force", func() bool { return store.Snapshot().Value.HTTP.Addr == want })
		}
		addr("first")
		write(t, path, "http: {addr: second}")
		addr("second")
		write(t, path, "http:\n  adr: third\n")
		waittest.Until(t, "it is refused", func() bool {
			f := store.Status().LastFailed
			return f != nil && f.Key == path && strings.Contains(f.Reason, "line 2, column 3: unknown field http.adr")
		})
		addr("second")
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		addr(":80")
		write(t, path, "http: {addr: fourth}")
		addr("fourth")
		waittest.Until(t, "nothing is wrong any more", func() bool { return store.Status().Error == "" })
	})
	t.Run("at a later start", func(t *testing.T) {
		write(t, path, "http: [")
		store := runLayered(t, cfg, src)
		if v := store.Snapshot().Value.HTTP.Addr; v != "fourth" {
			t.Errorf("started on %q: want what was kept of the file", v)
		}
		if s := store.Status(); s.LastFailed == nil || s.LastFailed.Key != path || s.Origin != "file" || s.Error == "" {
			t.Errorf("status %+v", s)
		}
	})
	for name, spoil := range map[string]func(path string){
		"malformed":   func(path string) { write(t, path, "http: [") },
		"a directory": func(path string) { _ = os.Mkdir(path, 0o700) },
		"oversized":   func(path string) { write(t, path, "proxy: "+strings.Repeat("x", config.DefaultMaxBytes)) },
		"binary":      func(path string) { write(t, path, "\x00\x01\xff") },
	} {
		t.Run("at a first start: "+name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "local.yaml")
			spoil(path)
			store := newLayered(t, config.Config[layered]{Files: []string{path}})
			err := store.Run(t.Context(), config.Source{Client: c, AgentID: "a1", File: goodFile(t)})
			if !errors.Is(err, config.ErrNoConfig) || !strings.Contains(err.Error(), path) {
				t.Errorf("want an error that names %s, got %v", path, err)
			}
		})
	}
}

// TestABadVariableIsNamed: the path alone leads nobody to a unit file.
func TestABadVariableIsNamed(t *testing.T) {
	c := etcdtest.Start(t).Client(t)
	for name, bad := range map[string]struct{ variable, text, says string }{
		"type":     {"HTTP_READ_TIMEOUT", "5", "http.read_timeout: time: missing unit in duration"},
		"YAML":     {"LIMITS", "{", "want map[string]config_test.limit"},
		"unknown":  {"LIMITS", "{x: {brust: 1}}", "unknown field limits[x].brust"},
		"validate": {"LIMITS", "{x: {rate: -1}}", "limits[x].rate: want 0 or more"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(layeredPrefix+bad.variable, bad.text)
			store := newLayered(t, config.Config[layered]{EnvPrefix: layeredPrefix})
			err := store.Run(t.Context(), config.Source{Client: c, AgentID: "a1"})
			if err == nil || !strings.Contains(err.Error(), layeredPrefix+bad.variable) || !strings.Contains(err.Error(), bad.says) {
				t.Errorf("want %q and the variable, got %v", bad.says, err)
			}
		})
	}
	type clash struct {
		A struct{ BC int }
		B int `yaml:"a_bc"`
	}
	if _, err := config.New(config.Config[clash]{EnvPrefix: "X_"}); err == nil || !strings.Contains(err.Error(), "a.bc and a_bc") {
		t.Errorf("one variable for two fields: %v", err)
	}
	type badTag struct {
		In []struct {
			N int `default:"many"`
		}
	}
	if _, err := config.New(config.Config[badTag]{}); err == nil || !strings.Contains(err.Error(), `default:"many" of N`) {
		t.Errorf("a default that does not fit: %v", err)
	}
}

type beat struct {
	Every time.Duration `default:"10s"`
	TTL   time.Duration `default:"60s"`
}

func (b *beat) Validate() error {
	if b.TTL < 2*b.Every {
		return fmt.Errorf("ttl: want twice every (%s), found %s", b.Every, b.TTL)
	}
	return nil
}

// TestASectionIsTheLibrarysAndHoldsBackAll: a program's author has no field
// for it, and must not have to.
func TestASectionIsTheLibrarysAndHoldsBackAll(t *testing.T) {
	c := etcdtest.Start(t).Client(t)
	applied := make(chan beat, 10)
	refuse := func(beat) error { return nil }
	section := config.Section{
		Name: "perennial",
		New:  func() any { return &beat{Every: 5 * time.Second} },
		Apply: func(_ context.Context, v any) error {
			b := *v.(*beat)
			if b.Every == time.Hour {
				return errors.New("too slow")
			}
			applied <- b
			return refuse(b)
		},
	}
	store := runLayered(t, config.Config[layered]{}, config.Source{Client: c, AgentID: "a1", Sections: []config.Section{section}})
	next := func(want beat) {
		t.Helper()
		if got := waittest.Next(t, "the section is applied", applied); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	next(beat{5 * time.Second, time.Minute})
	publish(t, c, "global", "perennial: {ttl: 90s}\nproxy: a")
	next(beat{5 * time.Second, 90 * time.Second})
	publish(t, c, "agent/a1", "proxy: b")
	waittest.Until(t, "the rest is in force", func() bool { return store.Snapshot().Value.Proxy == "b" })
	for document, says := range map[string]string{
		"perennial: {ttl: 1s}":            "line 1, column 13: perennial.ttl: want twice every",
		"perennial: {tll: 1s}":            "line 1, column 13: unknown field perennial.tll",
		"perennial: 1":                    "line 1, column 1: perennial: want a mapping, found a number",
		"perennial: {every: 1}":           "line 1, column 13: perennial.every: want a duration with its unit",
		"perennial: {every: 1h, ttl: 2h}": `refused by section "perennial": too slow`,
	} {
		document += "\nproxy: c"
		revision := publish(t, c, "agent/a1", document)
		waittest.Until(t, "it is refused: "+document, func() bool {
			f := store.Status().LastFailed
			return f != nil && f.Revision == revision
		})
		if f := store.Status().LastFailed; !strings.Contains(f.Reason, says) || f.Key != "/agents/config/agent/a1" {
			t.Errorf("%s:\nwant %s\n got %v", document, says, f)
		}
		if p := store.Snapshot().Value.Proxy; p != "b" {
			t.Errorf("proxy %q of a document with a bad section is in force", p)
		}
	}
	publish(t, c, "agent/a1", "proxy: d")
	waittest.Until(t, "a good one is in force", func() bool { return store.Snapshot().Value.Proxy == "d" })
	if n := len(applied); n != 0 {
		t.Errorf("applied %d times more", n)
	}
}

func TestASectionThatCannotWorkIsRefused(t *testing.T) {
	c := etcdtest.Start(t).Client(t)
	good := config.Section{Name: "perennial", New: func() any { return &beat{} }, Apply: func(context.Context, any) error { return nil }}
	taken, nothing, number := good, good, good
	taken.Name, nothing.Apply, number.New = "http", nil, func() any { return new(int) }
	for name, list := range map[string][]config.Section{
		"a name that the type has": {taken}, "nothing to call": {nothing}, "no struct": {number}, "twice": {good, good},
	} {
		err := newLayered(t, config.Config[layered]{}).Run(t.Context(), config.Source{Client: c, AgentID: "a1", Sections: list})
		if err == nil || errors.Is(err, config.ErrNoConfig) || !strings.Contains(err.Error(), list[0].Name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestWhatSubscribersRefuseIsTriedAFewTimes: the port may be free in a moment;
// and an agent that tries for ever is a spin.
func TestWhatSubscribersRefuseIsTriedAFewTimes(t *testing.T) {
	c := etcdtest.Start(t).Client(t)
	store := newLayered(t, config.Config[layered]{})
	calls := make(chan string, 100)
	busy := true
	_, err := config.Sub(store, "listener", func(l *layered) string { return l.HTTP.Addr }, func(_ context.Context, _, addr string) error {
		calls <- addr
		switch {
		case addr == "busy" && busy:
			busy = false
			return errors.New("address in use")
		case addr == "bad":
			return errors.New("no such address")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- store.Run(ctx, config.Source{Client: c, AgentID: "a1"}) }()
	defer func() {
		cancel()
		if err := waittest.Next(t, "Run returns", done); !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	}()
	waittest.Until(t, "ready", func() bool { return store.Snapshot().Origin == "etcd" })
	revision := publish(t, c, "global", "http: {addr: busy}")
	waittest.Until(t, "the second attempt succeeds", func() bool { return store.Snapshot().Revision == revision })
	if f := store.Status().LastFailed; f == nil || f.Attempts != 1 || f.Subscriber != `subscriber "listener"` || f.Digest != store.Snapshot().Digest {
		t.Errorf("last failed %+v", f)
	}
	wanted := publish(t, c, "global", "http: {addr: bad}")
	waittest.Until(t, "a second attempt is counted", func() bool {
		s := store.Status()
		return s.Wanted == wanted && s.LastFailed.Revision == wanted && s.LastFailed.Attempts == 2
	})
	if s := store.Status(); s.Running != revision || !strings.Contains(s.Error, "no such address") {
		t.Errorf("status %+v", s)
	}
	var seen []string
	for len(calls) > 0 {
		seen = append(seen, <-calls)
	}
	if want := []string{":80", "busy", "busy", "bad", "bad"}; !slices.Equal(seen, want) {
		t.Errorf("calls %q, want %q", seen, want)
	}
}
