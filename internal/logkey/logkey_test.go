package logkey

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const repository = "../.."

func TestEveryLogLineHasAConstantMessageAndKnownKeys(t *testing.T) {
	r, err := Scan(repository, Keys())
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range r.Violations {
		t.Error(v)
	}
	if r.Lines < 200 {
		t.Errorf("%d log lines were looked at, want at least 200: the scan does not know the loggers any more", r.Lines)
	}
	for _, k := range Keys() {
		if r.Used[k.Name] == 0 {
			t.Errorf("no line has the key %s: remove it from internal/logkey and docs/observability.md", k.Name)
		}
	}
}

func TestTheDocumentedLogKeysAreTheRealOnes(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join(repository, "docs/observability.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(doc), "\n## Log keys\n")
	if !ok {
		t.Fatal("docs/observability.md has no section Log keys")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var want []string
	for _, k := range Keys() {
		want = append(want, fmt.Sprintf("| `%s` | %s | %s |", k.Name, k.Type, k.Meaning))
	}
	got := regexp.MustCompile("(?m)^\\| `.*$").FindAllString(section, -1)
	if !slices.Equal(got, want) {
		t.Errorf("docs/observability.md lists other log keys; want the table\n%s\nfound\n%s", strings.Join(want, "\n"), strings.Join(got, "\n"))
	}
}

func TestALineThatBreaksARuleIsFound(t *testing.T) {
	for line, rule := range map[string]string{
		`log.Info("begins", "task", id)`:                                        "",
		`s.cfg.Logger.Warn("of two "+"parts", "task", id, "error", err)`:        "",
		`a.log.With("task", id).Error("chained", "error", err)`:                 "",
		`log.LogAttrs(ctx, level, "attributes", slog.String("task", id), attr)`: "",
		`u.attemptLog().Info("of a function", "task", id)`:                      "",
		`http.Error(w, text, 500)`:                                              "",
		`log.Info(text)`:                                                        "string literal",
		`log.Info(fmt.Sprintf("task %s", id))`:                                  "string literal",
		`log.Info("task "+id)`:                                                  "string literal",
		`u.attemptLog().Info("of a function", "other", id)`:                     `found "other"`,
		`a.log.With("other", id).Error("chained")`:                              `found "other"`,
		`log.With("task", id).With("error", err).Info("x", "other", id)`:        `found "other"`,
		`log.InfoContext(ctx, "begins", "other", id)`:                           `found "other"`,
		`log.Log(ctx, level, "begins", "other", id)`:                            `found "other"`,
		`log.Info("begins", slog.Int("other", 1))`:                              `found "other"`,
		`x := slog.Any("other", 1)`:                                             `found "other"`,
		`log.Info("begins", key, id)`:                                           "string literal",
		`log.Info("begins", "task")`:                                            "behind each key",
		`log.Info("begins", all...)`:                                            "one by one",
		`log.WithGroup("task").Info("begins")`:                                  "no groups",
		`var journal *slog.Logger`:                                              "found journal",
		`f := func(out *slog.Logger) {}`:                                        "found out",
	} {
		t.Run(line, func(t *testing.T) {
			dir := t.TempDir()
			text := "//go:build plan9\n\npackage p\n\nfunc f() {\n\t" + line + "\n}\n"
			if err := os.WriteFile(filepath.Join(dir, "p.go"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			r, err := Scan(dir, []Key{{Name: "task"}, {Name: "error"}})
			found := r.Violations
			switch {
			case err != nil:
				t.Fatal(err)
			case rule == "" && len(found) > 0:
				t.Errorf("found %v", found)
			case rule != "" && (len(found) == 0 || !strings.Contains(found[0].String(), rule)):
				t.Errorf("found %v, want %q", found, rule)
			}
		})
	}
}
