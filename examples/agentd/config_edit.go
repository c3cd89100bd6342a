package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/config"
)

func newConfigEditCommand() *cobra.Command {
	var p configPublish
	cmd := &cobra.Command{
		Use:   "edit SCOPE",
		Short: "Edit a configuration document in an editor and publish it",
		Long: `edit opens the document of SCOPE (global, group/GROUP or agent/ID), secrets
included, in $VISUAL, else $EDITOR, else vi, and publishes what was saved as
config put does. If nothing was changed, nothing happens. If live agents would
refuse it the editor opens again, with the reason at the top; leave it as it is
to give up. If somebody else has published in the meantime nothing happens. An
edit that was not published is kept, and its path named; else the file, which
only you can read, is deleted.`,
		Example: "  EDITOR='code --wait' agentd config edit --etcd http://127.0.0.1:2379 --message 'less logs' group/web",
		Args:    ofScope(takes("SCOPE")),
	}
	p.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return p.with(func(client *clientv3.Client) error { return p.edit(cmd, client, args[0]) })
	}
	return cmd
}

func (p *configPublish) edit(cmd *cobra.Command, client *clientv3.Client, scope string) error {
	now, change, err := p.begin(cmd.Context(), cmd.ErrOrStderr(), client, scope)
	if err != nil {
		return err
	}
	draft, err := newEdition(scope, now.Data)
	if err != nil {
		return err
	}
	done := configOutcome{Scope: scope, Replaces: change.Replaces}
	err = p.refine(cmd, client, draft, &done)
	if err == nil && done.Changed {
		done.Revision, err = p.publish(cmd.Context(), client, draft.text, change)
	}
	if err != nil {
		return draft.keep(err)
	}
	draft.discard()
	if !done.Changed {
		done.Revision = done.Replaces
	}
	return p.conclude(cmd, client, done)
}

// refine has the draft edited until nothing speaks against it. It stays
// unchanged in done if nothing was changed.
func (p *configPublish) refine(cmd *cobra.Command, client *clientv3.Client, draft *edition, done *configOutcome) error {
	for {
		if err := draft.open(cmd); err != nil {
			return err
		}
		if bytes.Equal(draft.text, draft.original) {
			return nil
		}
		r, wrong := p.approve(cmd.Context(), client, done.Scope, draft.text, cmd.ErrOrStderr())
		if wrong == nil {
			done.Changed, done.Review = true, &r
			return nil
		}
		if !errors.Is(wrong, config.ErrInvalid) && r.err() == nil {
			return wrong // it could not be checked
		}
		if draft.refused != nil && bytes.Equal(draft.text, draft.refused) {
			return wrong
		}
		if err := draft.refuse(wrong); err != nil {
			return err
		}
	}
}

// edition is a document in a file of its own, in a directory of its own: what an
// editor writes beside it goes with it.
type edition struct {
	path           string
	original, text []byte
	refused        []byte // the text that the file explains; nil = none
}

// newEdition makes a file that only its owner can read.
func newEdition(scope string, document []byte) (*edition, error) {
	dir, err := os.MkdirTemp("", "agentd-config-") // mode 0700
	if err != nil {
		return nil, fmt.Errorf("a file to edit: %w", err)
	}
	d := &edition{path: filepath.Join(dir, strings.ReplaceAll(scope, "/", "-")+".yaml"), original: document}
	if err := os.WriteFile(d.path, document, 0o600); err != nil {
		d.discard()
		return nil, fmt.Errorf("a file to edit: %w", err)
	}
	return d, nil
}

// explanation begins the lines at the top of the file that are not the document's.
const explanation = "#! "

// open runs the editor and reads what it left. An interrupt is the editor's: it
// gets it as well, and may have something to save.
func (d *edition) open(cmd *cobra.Command) error {
	name, args := editor()
	run := exec.CommandContext(context.WithoutCancel(cmd.Context()), args[0], append(args[1:], d.path)...) //nolint:gosec // the user's own choice
	run.Stdin, run.Stdout, run.Stderr = cmd.InOrStdin(), os.Stdout, cmd.ErrOrStderr()
	if err := run.Run(); err != nil {
		return fmt.Errorf("want an editor to end well, found %q: %w: set EDITOR or VISUAL to another", name, err)
	}
	text, err := readFile(d.path)
	if err != nil {
		return err
	}
	for bytes.HasPrefix(text, []byte(explanation)) {
		_, text, _ = bytes.Cut(text, []byte{'\n'})
	}
	d.text = text
	return nil
}

// editor is the user's, and how it is started. The shell takes it apart, as git
// has it do: it may have arguments, and quotes around a path with spaces.
func editor() (name string, args []string) {
	name = "vi"
	for _, variable := range []string{"EDITOR", "VISUAL"} {
		if value := strings.TrimSpace(os.Getenv(variable)); value != "" {
			name = value
		}
	}
	if runtime.GOOS == "windows" {
		return name, strings.Fields(name)
	}
	return name, []string{"sh", "-c", name + ` "$@"`, "sh"}
}

// refuse explains at the top of the file what is wrong. Lines are counted
// from below that.
func (d *edition) refuse(wrong error) error {
	d.refused = d.text
	var text bytes.Buffer
	for _, line := range []string{oneLine(wrong.Error()), "Lines are counted without these at the top. Save as it is to give up."} {
		fmt.Fprintf(&text, "%s%s\n", explanation, line)
	}
	text.Write(d.text)
	return os.WriteFile(d.path, text.Bytes(), 0o600)
}

// discard deletes the file and what lies beside it.
func (d *edition) discard() { _ = os.RemoveAll(filepath.Dir(d.path)) }

// keep returns err, and where the edit is, unless there is none.
func (d *edition) keep(err error) error {
	if text, readErr := os.ReadFile(d.path); readErr == nil && bytes.Equal(text, d.original) {
		d.discard()
		return err
	}
	if d.text != nil { // without what explained it
		if writeErr := os.WriteFile(d.path, d.text, 0o600); writeErr != nil {
			err = errors.Join(err, writeErr)
		}
	}
	return fmt.Errorf("%w; the edit is kept in %s", err, d.path)
}
