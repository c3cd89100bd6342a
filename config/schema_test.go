package config_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/config"
	"github.com/perennial-go/perennial/internal/etcdtest"
)

type database struct {
	Password string        `secret:"true" default:"hunter1" doc:"What the server asks for."`
	Token    config.Secret `doc:"Another one."`
	Timeout  time.Duration `default:"5s"`
}

type described struct {
	Server    server `doc:"Where it listens."`
	Database  database
	Databases map[string]database
	Tags      []string
	Any       any
	Parent    *described
}

func describedStore(t testing.TB) *config.Store[described] {
	t.Helper()
	s, err := config.New(config.Config[described]{Default: described{
		Server: server{Host: "localhost", Port: 80}, Tags: []string{"a"},
		Database: database{Token: config.NewSecret("hunter2")},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

type beat struct {
	TTL time.Duration `yaml:"ttl" default:"30s"`
}

func library() config.Section {
	return config.Section{
		Name:  "library",
		New:   func() any { return new(beat) },
		Apply: func(context.Context, any) error { return nil },
	}
}

// TestSchemaIsWhatItWas: agents of one release must publish one schema, and
// what they have published must stay readable. The golden file is what the
// first version wrote.
func TestSchemaIsWhatItWas(t *testing.T) {
	golden, err := os.ReadFile("testdata/schema-1.json")
	if err != nil {
		t.Fatal(err)
	}
	golden = []byte(strings.TrimSuffix(string(golden), "\n"))
	for range 3 {
		data, err := describedStore(t).Schema(library())
		if err != nil || string(data) != string(golden) {
			t.Fatalf("%v\n got %s\nwant %s", err, data, golden)
		}
	}
	s, err := config.ParseSchema(golden)
	if err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(s)
	if err != nil || string(again) != string(golden) {
		t.Errorf("%v\nread back as %s", err, again)
	}
	if strings.Contains(string(golden), "hunter") {
		t.Error("the schema tells a secret's default")
	}
}

func TestSchemaRefusesWhatItCannotDescribe(t *testing.T) {
	check := func(name, says string, schema func(...config.Section) ([]byte, error)) {
		t.Helper()
		if _, err := schema(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: want an error that says %q, got %v", name, says, err)
		}
	}
	type twice struct {
		A int `yaml:"x"`
		B int `yaml:"x"`
	}
	two, err := config.New(config.Config[twice]{})
	if err != nil {
		t.Fatal(err)
	}
	check("two of a name", `called "x"`, two.Schema)
	// Each doubles the one before.
	type l0 struct{ A, B string }
	type l1 struct{ A, B, C, D l0 }
	type l2 struct{ A, B, C, D l1 }
	type l3 struct{ A, B, C, D l2 }
	type l4 struct{ A, B, C, D l3 }
	type l5 struct{ A, B, C, D l4 }
	type l6 struct{ A, B, C, D l5 }
	type l7 struct{ A, B, C, D l6 }
	large, err := config.New(config.Config[l7]{})
	if err != nil {
		t.Fatal(err)
	}
	check("too large", "more than 20000", large.Schema)
	if _, err := describedStore(t).Schema(config.Section{Name: "server", New: library().New, Apply: library().Apply}); err == nil {
		t.Error("a section that is a field: accepted")
	}
}

// TestSchemaInEtcdIsWhatItsNameSays: a schema decides which documents are
// published, so that a changed one must not be believed.
func TestSchemaInEtcdIsWhatItsNameSays(t *testing.T) {
	c := etcdtest.Start(t).Client(t)
	data, err := describedStore(t).Schema()
	if err != nil {
		t.Fatal(err)
	}
	var revisions []int64
	for range 2 {
		digest, err := config.PublishSchema(t.Context(), c, "", data)
		if err != nil || digest != config.SchemaDigest(data) {
			t.Fatal(digest, err)
		}
		r, err := c.Get(t.Context(), "/agents/config-schema/"+digest)
		if err != nil || len(r.Kvs) != 1 || r.Kvs[0].Lease != 0 {
			t.Fatal(r, err)
		}
		revisions = append(revisions, r.Kvs[0].ModRevision)
	}
	if revisions[0] != revisions[1] {
		t.Error("written again though it was there")
	}
	s, err := config.ReadSchema(t.Context(), c, "", config.SchemaDigest(data))
	if err != nil || string(s.Data) != string(data) {
		t.Errorf("%v, %s", err, s.Data)
	}
	if _, err := config.ReadSchema(t.Context(), c, "", strings.Repeat("0", 64)); !errors.Is(err, config.ErrNotFound) {
		t.Errorf("none there: %v", err)
	}
	if _, err := config.ReadSchema(t.Context(), c, "", "../config/global"); !errors.Is(err, config.ErrSchema) {
		t.Errorf("a digest that escapes: %v", err)
	}
	putRaw(t, c, "/agents/config-schema/junk", "\x00")
	putRaw(t, c, "/agents/config-schema/"+strings.Repeat("a", 64), `{"schema":1}`)
	newer := []byte(`{"schema":2}`)
	putRaw(t, c, "/agents/config-schema/"+config.SchemaDigest(newer), string(newer))
	found, err := config.Schemas(t.Context(), c, "")
	if err != nil || len(found.Schemas) != 1 || found.Damaged != 3 || found.Example == nil {
		t.Errorf("found %+v, %v", found, err)
	}
	putRaw(t, c, "/agents/config-schema/"+config.SchemaDigest(data), `{"schema":1,"additionalProperties":true}`)
	if _, err := config.ReadSchema(t.Context(), c, "", config.SchemaDigest(data)); !errors.Is(err, config.ErrSchema) || !strings.Contains(err.Error(), "something else") {
		t.Errorf("a changed one: %v", err)
	}
}

// TestEffectiveSaysWhereEachSettingIsFrom as the agent merges them; else an
// operator changes the wrong document.
func TestEffectiveSaysWhereEachSettingIsFrom(t *testing.T) {
	c := etcdtest.Start(t).Client(t)
	global := publish(t, c, "global", "server: {host: global, port: 1}\ntags: [global]\nany: {x: 1}\ndatabase: {password: hunter3}")
	web := publish(t, c, "group/web", "server:\n  port: 2\ntags: null\nany: 5")
	publish(t, c, "agent/other", "server: {port: 9}")
	own := publish(t, c, "agent/a1", "any:\n  y: [1, {z: 2}]\nunknown: {deep: hunter4}\ndatabases: {main: {token: hunter5}}")
	data, err := describedStore(t).Schema(library())
	if err != nil {
		t.Fatal(err)
	}
	schema, err := config.ParseSchema(data)
	if err != nil {
		t.Fatal(err)
	}
	m, err := config.Effective(t.Context(), c, "", "a1", []string{"eu", "web"})
	if err != nil || m.Revision != own || len(m.Layers) != 3 {
		t.Fatalf("%+v, %v", m, err)
	}
	want := []config.Field{
		{Path: "any.y", Value: []any{1, map[string]any{"z": 2}}, Layer: "agent/a1", Revision: own, Line: 2, Column: 3},
		{Path: "database.password", Value: "(secret)", Layer: "global", Revision: global, Line: 4, Column: 12},
		{Path: "database.timeout", Value: "5s", Layer: config.LayerDefault},
		{Path: "databases.main.timeout", Value: "5s", Layer: config.LayerDefault},
		{Path: "databases.main.token", Value: "(secret)", Layer: "agent/a1", Revision: own, Line: 4, Column: 20},
		{Path: "library.ttl", Value: "30s", Layer: config.LayerDefault},
		{Path: "server.host", Value: "global", Layer: "global", Revision: global, Line: 1, Column: 10},
		{Path: "server.port", Value: 2, Layer: "group/web", Revision: web, Line: 2, Column: 3},
		{Path: "server.timeout", Value: "0s", Layer: config.LayerDefault},
		{Path: "tags", Value: []any{"a"}, Layer: config.LayerDefault},
		{Path: "unknown", Value: "(hidden)", Layer: "agent/a1", Revision: own, Line: 3, Column: 1},
	}
	got := m.Fields(schema, config.Redaction{Schemas: []*config.Schema{schema}})
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
	for _, f := range m.Fields(nil, config.Redaction{}) {
		if text, ok := f.Value.(string); !ok || text != "(hidden)" {
			t.Errorf("without a schema %s shows %v", f.Path, f.Value)
		}
	}
	putRaw(t, c, "/agents/config/group/eu", "a: [")
	if _, err := config.Effective(t.Context(), c, "", "a1", []string{"eu", "web"}); !errors.Is(err, config.ErrInvalid) || !strings.Contains(err.Error(), "group/eu") {
		t.Errorf("a damaged layer: %v", err)
	}
	if _, err := config.Effective(t.Context(), c, "", "../x", nil); err == nil {
		t.Error("an id that escapes: accepted")
	}
}

// TestEffectiveIsOneMoment: layers of two moments would show what never was.
func TestEffectiveIsOneMoment(t *testing.T) {
	c := etcdtest.Start(t).Client(t)
	// Both documents are always written together.
	write := func(n string) {
		if _, err := c.Txn(t.Context()).Then(
			clientv3.OpPut("/agents/config/global", "a: "+n),
			clientv3.OpPut("/agents/config/agent/a1", "b: "+n),
		).Commit(); err != nil {
			t.Error(err)
		}
	}
	write("0")
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for n := '1'; ; n++ {
			select {
			case <-stop:
				return
			default:
				write(string('0' + n%10))
			}
		}
	}()
	for range 200 {
		m, err := config.Effective(t.Context(), c, "", "a1", []string{"g1", "g2"})
		if err != nil || m.Values["a"] != m.Values["b"] {
			t.Errorf("%v, %v", m, err)
			break
		}
	}
	close(stop)
	<-stopped
}
