package config_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/perennial-go/perennial/config"
)

const hidden = "hunter22-hunter22"

type vault struct {
	Token  config.Secret
	Tagged string        `secret:"true"`
	Wait   time.Duration `secret:"true"`
	Keys   []config.Secret
	In     map[string]struct{ Password string } `secret:"true"`
	Ptr    *config.Secret
	hidden config.Secret
	Plain  string
}

func (v *vault) Validate() error {
	if v.Plain == "bad" {
		return fmt.Errorf("plain: token %s and %q do not go with it", v.Token.Reveal(), v.Tagged)
	}
	return nil
}

// TestASecretIsShownNowhere: logs, statuses and tickets are read by others.
func TestASecretIsShownNowhere(t *testing.T) {
	token := config.NewSecret(hidden)
	v := vault{Token: token, Keys: []config.Secret{token}, Ptr: &token, hidden: token}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "v", token, "vault", v)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "v", token, "vault", v)
	shown := []string{log.String()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T", "%p", "%10s", "%!"} {
		shown = append(shown, fmt.Sprintf(verb, token), fmt.Sprintf(verb, &token), fmt.Sprintf(verb, v), fmt.Sprintf(verb, &v), fmt.Sprintf(verb, []any{v}))
	}
	for _, marshal := range []func(any) ([]byte, error){json.Marshal, yaml.Marshal} {
		out, err := marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		shown = append(shown, string(out))
	}
	shown = append(shown, errors.Join(fmt.Errorf("x: %v", token)).Error())
	for _, s := range shown {
		if strings.Contains(s, "hunter") || strings.Contains(s, fmt.Sprintf("%x", hidden)) || strings.Contains(strings.ToLower(s), fmt.Sprintf("%x", "hunter")) {
			t.Errorf("shown: %s", s)
		}
	}
	if s := fmt.Sprintf("%v|%d|%#v|%v", token, token, token, config.Secret{}); s != "(secret)|(secret)|(secret)|" {
		t.Errorf("printed as %s", s)
	}
	if !token.Equal(config.NewSecret(hidden)) || token.Equal(config.Secret{}) || token.Reveal() != hidden {
		t.Error("a secret is not what was put in")
	}
}

// TestWhatIsTaggedSecretIsShownNowhere either, where this package shows it.
func TestWhatIsTaggedSecretIsShownNowhere(t *testing.T) {
	store, err := config.New(config.Config[vault]{})
	if err != nil {
		t.Fatal(err)
	}
	good := fmt.Sprintf("{token: %[1]s, tagged: %[1]s, wait: 77m, keys: [%[1]s], in: {a: {password: %[1]s}}, ptr: %[1]s, plain: seen}", hidden)
	v, err := store.Check([]byte(good))
	if err != nil || v.Tagged != hidden || v.In["a"].Password != hidden || v.Ptr.Reveal() != hidden {
		t.Fatalf("got %+v, %v", v, err)
	}
	shown := config.Redacted(v)
	if s := fmt.Sprintf("%+v", shown); strings.Contains(s, "hunter") || shown.Tagged != "(secret)" || shown.Wait != 0 || shown.In != nil || shown.Plain != "seen" || v.Tagged != hidden {
		t.Errorf("redacted: %s", s)
	}
	snapshot := config.Snapshot[vault]{Value: v, Revision: 7, Origin: "etcd"}
	out, err := json.Marshal(&snapshot)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{string(out), fmt.Sprintf("%v %+v %#v", snapshot, &snapshot, &snapshot), snapshot.LogValue().String()} {
		if strings.Contains(s, "hunter") || !strings.Contains(s, "etcd") {
			t.Errorf("snapshot: %s", s)
		}
	}
	schema, err := store.Schema()
	if err != nil {
		t.Fatal(err)
	}
	known, err := config.ParseSchema(schema)
	if err != nil {
		t.Fatal(err)
	}
	text, err := config.Redaction{Schemas: []*config.Schema{known}}.Document([]byte(good))
	want := map[string]any{"token": "(secret)", "tagged": "(secret)", "wait": "(secret)", "keys": []any{"(secret)"}, "in": "(secret)", "ptr": "(secret)", "plain": "seen"}
	if err != nil {
		t.Fatal(err)
	}
	if doc, err := config.Parse(text); err != nil || !reflect.DeepEqual(doc.Values(), want) {
		t.Errorf("document: %s, %v", text, err)
	}
}

// TestAnErrorQuotesNoSecret: it goes into the status, which all can read.
func TestAnErrorQuotesNoSecret(t *testing.T) {
	store, err := config.New(config.Config[vault]{})
	if err != nil {
		t.Fatal(err)
	}
	for name, document := range map[string]string{
		"in Validate":              "{plain: bad, token: 'hunter22\"', tagged: 'hunter22\"'}",
		"of the wrong form":        "wait: " + hidden,
		"where a list is wanted":   "keys: " + hidden,
		"a list for a secret":      "token: [" + hidden + "]",
		"that looks like an alias": "token: *" + hidden,
		"that looks like a tag":    "token: !" + hidden,
		"that looks like a number": "token: !!int " + hidden,
		"as a mapping":             "in: {a: {password: [" + hidden + "]}}",
		"in a broken document":     "token: \"" + hidden,
		"in a broken list":         "keys: [" + hidden,
		"with a tab":               "token:\n\t" + hidden,
		"that is the shown form":   "token: (secret)",
	} {
		_, err := store.Check([]byte(document))
		if err == nil || strings.Contains(err.Error(), "hunter") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestValidateIsFoundWhereverItIs: one that is not called lets through what
// its author ruled out.
func TestValidateIsFoundWhereverItIs(t *testing.T) {
	type nest struct {
		One    limit
		Ptr    *limit
		List   []limit
		ByName map[string]*limit
		Inline struct{ Deep limit } `yaml:",inline"`
	}
	order := ""
	store, err := config.New(config.Config[nest]{Validate: func(*nest) error { order += "config "; return nil }})
	if err != nil {
		t.Fatal(err)
	}
	for document, want := range map[string]string{
		"one: {rate: -1}":         "line 1, column 7: one.rate: want 0 or more",
		"ptr: {rate: -1}":         "line 1, column 7: ptr.rate: want 0 or more",
		"list: [{}, {rate: -1}]":  "line 1, column 13: list[1].rate: want 0 or more",
		"byname: {a: {rate: -1}}": "line 1, column 14: byname[a].rate: want 0 or more",
		"\ndeep: {rate: -1}":      "line 2, column 8: deep.rate: want 0 or more",
	} {
		if _, err := store.Check([]byte("one: {rate: 1}"), []byte(document)); err == nil || err.Error() != "configuration document 2: "+want {
			t.Errorf("%s:\n got %v\nwant %s", document, err, want)
		}
	}
	if order == "" {
		t.Error("Config.Validate is not called")
	}
	panics, err := config.New(config.Config[nest]{Validate: func(n *nest) error { n.ByName["x"].Rate = 1; return nil }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := panics.Check([]byte("{}")); err == nil || !strings.Contains(err.Error(), "it panicked in github.com/perennial-go/perennial/config_test.") || !strings.Contains(err.Error(), ", secret_test.go:") {
		t.Errorf("a Validate that panics: %v", err)
	}
}
