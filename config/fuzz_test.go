package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// tagged has a field of each kind that a variable or a tag is read for.
type tagged struct {
	Text   string
	Secret Secret
	Wait   time.Duration
	Until  time.Time
	N      int8
	U      *uint16
	F      float32
	B      bool
	List   []inner
	Map    map[string]inner
	Any    any
	Nested inner
}

// FuzzEnvironment: a variable is set by whoever starts the program.
func FuzzEnvironment(f *testing.F) {
	for _, s := range []string{"", "1", "-129", "true", "[{n: 1}]", "{a: {n: 1}}", "5s", "null", "*x", "&x [*x]", "\xff", "(secret)", "!!binary aGk="} {
		f.Add("X_TEXT", s)
		f.Add("X_LIST", s)
		f.Add("X_U", s)
		f.Add("X_NESTED_N", s)
	}
	store, err := New(Config[tagged]{EnvPrefix: "X_"})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, name, text string) {
		set, unknown, err := readEnvironment("X_", store.variables, []string{name + "=" + text})
		if err != nil || set == nil {
			return
		}
		if len(unknown) != 0 {
			t.Errorf("%q is both unknown and read", unknown)
		}
		c, bad := store.build([]document{{Key: environment, local: true, tree: set}}, nil)
		if bad != nil {
			if !strings.Contains(bad.Reason, name) {
				t.Errorf("want the variable %s named: %s", name, bad.Reason)
			}
			return
		}
		if v := c.value.(*tagged); name == "X_TEXT" && v.Text != text {
			t.Errorf("%q was read as %q", text, v.Text)
		}
	})
}

// FuzzDefaultTag: whatever a tag says, it is a value or an error.
func FuzzDefaultTag(f *testing.F) {
	for i := range reflect.TypeFor[tagged]().NumField() {
		for _, s := range []string{"", "1", "1e9", "true", "[{n: 1}]", "{a: {n: 1}}", "5s", "null", "2020-01-02T03:04:05Z"} {
			f.Add(uint(i), s)
		}
	}
	f.Fuzz(func(t *testing.T, i uint, text string) {
		of := reflect.TypeFor[tagged]().Field(int(i % uint(reflect.TypeFor[tagged]().NumField()))).Type
		v, err := fromText(of, text)
		if err != nil {
			return
		}
		out := reflect.New(of)
		if err := decodeValue(v, out.Interface()); err == nil && of.Kind() == reflect.String && out.Elem().String() != text {
			t.Errorf("%q became %q", text, out.Elem())
		}
	})
}

// FuzzTrial: what a crash left, or anybody who may write the state directory.
func FuzzTrial(f *testing.F) {
	golden, err := os.ReadFile("testdata/config-1.json.trial")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(golden)
	f.Add([]byte(`{"schema":1,"times":1e300}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		k := &keeper{path: filepath.Join(t.TempDir(), "c")}
		if err := os.WriteFile(k.trialPath(), data, 0o600); err != nil {
			t.Fatal(err)
		}
		if n := k.crashes("sha256:00"); n != 0 {
			t.Errorf("%d crashes of a program that has not run", n)
		}
	})
}
