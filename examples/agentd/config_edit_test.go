package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/config"
)

// editing is a site and an editor that does what a script says.
type editing struct {
	*site
	t   *testing.T
	dir string // where temporary files go
}

func newEditing(t *testing.T, document string) *editing {
	t.Helper()
	s, run := documents(t)
	if document != "" {
		run("put", "global", writeFile(t, document)).ok(t)
	}
	dir := filepath.Join(t.TempDir(), "tmp")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return &editing{s, t, dir}
}

// run edits the global document; script gets the file as $1.
func (e *editing) run(script string, args ...string) result {
	e.t.Helper()
	editor := filepath.Join(e.t.TempDir(), "editor")
	if err := os.WriteFile(editor, []byte("#!/bin/sh\nset -e\n"+script), 0o700); err != nil { //nolint:gosec // it is to be executed
		e.t.Fatal(err)
	}
	return command(e.t, []string{"VISUAL=", "EDITOR=" + editor, "TMPDIR=" + e.dir},
		append([]string{"config", "edit", "--etcd", e.etcd.URL(), "global"}, args...)...)
}

// holds checks the published document.
func (e *editing) holds(want string) {
	e.t.Helper()
	d, err := config.Get(e.t.Context(), e.etcd.Client(e.t), "", "global")
	if err != nil || string(d.Data) != want {
		e.t.Errorf("the document is %q, %v, want %q", d.Data, err, want)
	}
}

// left are the files of edits that are still there.
func (e *editing) left() []string {
	e.t.Helper()
	files, err := filepath.Glob(filepath.Join(e.dir, "*", "*"))
	if err != nil {
		e.t.Fatal(err)
	}
	return files
}

func (e *editing) nothingLeft() {
	e.t.Helper()
	if left, err := os.ReadDir(e.dir); err != nil || len(left) > 0 {
		e.t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestEditPublishesWhatWasSaved from a file that nobody else can read, with
// the secrets in it, and of which nothing stays.
func TestEditPublishesWhatWasSaved(t *testing.T) {
	e := newEditing(t, "password: hunter2\n")
	seen := filepath.Join(t.TempDir(), "seen")
	r := e.run(`stat -c '%a' "$1" "$(dirname "$1")" >`+seen+`
cat "$1" >>`+seen+`
touch "$1.swp"
echo 'more: 1' >>"$1"`, "--message", "by hand").ok(t)
	if got, err := os.ReadFile(seen); err != nil || string(got) != "600\n700\npassword: hunter2\n" {
		t.Errorf("the editor saw %q, %v", got, err)
	}
	if !strings.Contains(r.stdout, "published global") || strings.Contains(r.stdout+r.stderr, "hunter2") {
		t.Errorf("printed %q, %q", r.stdout, r.stderr)
	}
	e.holds("password: hunter2\nmore: 1\n")
	e.nothingLeft()
	if d, err := config.Get(t.Context(), e.etcd.Client(t), "", "global"); err != nil || d.Message != "by hand" {
		t.Errorf("%+v, %v", d, err)
	}
}

func TestEditThatChangesNothingPublishesNothing(t *testing.T) {
	e := newEditing(t, "a: 1\n")
	if r := e.run("true").ok(t); !strings.Contains(r.stdout, "unchanged") {
		t.Errorf("printed %q", r.stdout)
	}
	e.nothingLeft()
	e.run("exit 3").fails(t, 1, "editor", "exit status 3")
	e.holds("a: 1\n")
	e.nothingLeft()
	fresh := newEditing(t, "")
	fresh.run("true").ok(t)
	if _, err := config.Get(t.Context(), fresh.etcd.Client(t), "", "global"); err == nil {
		t.Error("an empty edit made a document")
	}
	fresh.run(`echo 'a: 1' >"$1"`).ok(t)
	fresh.holds("a: 1\n")
}

// TestEditorMayHaveArgumentsAndAPathWithSpaces as shells take them apart.
func TestEditorMayHaveArgumentsAndAPathWithSpaces(t *testing.T) {
	e := newEditing(t, "a: 1\n")
	dir := filepath.Join(t.TempDir(), "my editor")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ed"), []byte("#!/bin/sh\necho \"b: $1\" >>\"$2\"\n"), 0o700); err != nil { //nolint:gosec // it is to be executed
		t.Fatal(err)
	}
	command(t, []string{"VISUAL='" + dir + "/ed' 'two words'", "EDITOR=false", "TMPDIR=" + e.dir}, "config", "edit", "--etcd", e.etcd.URL(), "global").ok(t)
	e.holds("a: 1\nb: two words\n")
	command(t, []string{"VISUAL=", "EDITOR=no-such-editor", "TMPDIR=" + e.dir}, "config", "edit", "--etcd", e.etcd.URL(), "global").fails(t, 1, "no-such-editor", "set EDITOR")
	e.nothingLeft()
}

// TestInvalidEditIsOpenedAgain with the reason in it, and kept when its author
// gives up: a long edit must not be lost for a typing error.
func TestInvalidEditIsOpenedAgain(t *testing.T) {
	e := newEditing(t, "a: 1\n")
	count := filepath.Join(t.TempDir(), "count")
	e.run(`echo x >>` + count + `
if [ "$(wc -l <` + count + `)" = 1 ]; then echo 'b: [' >>"$1"; exit; fi
head -1 "$1" | grep -q '^#! .*line 2'
sed -i 's/b: \[/b: 2/' "$1"`).ok(t)
	e.holds("a: 1\nb: 2\n")
	e.nothingLeft()

	r := e.run(`grep -q 'c: \[' "$1" || echo 'c: [' >>"$1"`)
	left := e.left()
	if len(left) != 1 {
		t.Fatalf("kept %v", left)
	}
	r.fails(t, 1, "line 3", left[0])
	if kept, err := os.ReadFile(left[0]); err != nil || string(kept) != "a: 1\nb: 2\nc: [\n" {
		t.Errorf("kept %q, %v", kept, err)
	}
	e.holds("a: 1\nb: 2\n")
}

// TestEditThatSomebodyElseOvertookIsKept and changes nothing.
func TestEditThatSomebodyElseOvertookIsKept(t *testing.T) {
	e := newEditing(t, "a: 1\n")
	r := e.run(fmt.Sprintf(`echo 'a: 2' | %s config put --etcd %s --by faster global >/dev/null 2>&1
echo 'b: 1' >>"$1"`, binary(t, "1.0.0"), e.etcd.URL()))
	left := e.left()
	if len(left) != 1 {
		t.Fatalf("kept %v: %+v", left, r)
	}
	r.fails(t, 1, "faster", "kept", left[0])
	if kept, err := os.ReadFile(left[0]); err != nil || string(kept) != "a: 1\nb: 1\n" {
		t.Errorf("kept %q, %v", kept, err)
	}
	e.holds("a: 2\n")
}
