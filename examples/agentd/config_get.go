package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/config"
)

// documentView is a document as -o json shows it.
type documentView struct {
	Scope    string    `json:"scope"`
	Revision int64     `json:"revision"`
	By       string    `json:"by,omitempty"`
	At       time.Time `json:"at,omitzero"`
	Message  string    `json:"message,omitempty"`
	Restores int64     `json:"restores,omitempty"`
	Deleted  bool      `json:"deleted,omitempty"`
	Bytes    int       `json:"bytes"`
	Document string    `json:"document,omitempty"`
}

func (e *eye) view(d config.Document) (documentView, error) {
	v := documentView{
		Scope: d.Scope, Revision: d.Revision, By: d.By, At: d.At, Message: d.Message,
		Restores: d.Restores, Deleted: d.Deleted, Bytes: len(d.Data),
	}
	if d.Deleted {
		return v, nil
	}
	text, err := e.see(d.Data)
	v.Document = string(text)
	return v, err
}

type configGet struct {
	configFlags
	revision    int64
	effective   bool
	agent       string
	groups      []string
	showSecrets bool
	output      *format
}

func newConfigGetCommand() *cobra.Command {
	var g configGet
	cmd := &cobra.Command{
		Use:   "get [SCOPE]",
		Short: "Show a configuration document, or what an agent makes of all of them",
		Long: `get shows the document of SCOPE (global, group/GROUP or agent/ID) as it was
published, or with --revision an earlier one. With --effective and --agent it
shows, for each setting of that agent, the value and the layer that it is from:
the documents merged as the agent merges them, over the defaults that its
schema tells. What the host itself adds (environment and files) is not known
here. Secret values are hidden unless --show-secrets.`,
		Example: "  agentd config get --etcd http://127.0.0.1:2379 global\n" +
			"  agentd config get --etcd http://127.0.0.1:2379 --effective --agent a1",
		Args: ofScope(between(0, "SCOPE")),
	}
	g.add(cmd)
	g.output = formatFlag(cmd)
	f := cmd.Flags()
	f.Int64Var(&g.revision, "revision", 0, "show the document of this `revision`, which the history has (default the current one)")
	f.BoolVar(&g.effective, "effective", false, "show what the layers come to for --agent")
	f.StringVar(&g.agent, "agent", "", "`id` of the agent, with --effective")
	f.StringSliceVar(&g.groups, "group", nil, "`group` of an agent that is not registered, with --effective; repeatable, the later one winning")
	noVariable(cmd, "group")
	f.BoolVar(&g.showSecrets, "show-secrets", false, showSecretsHelp)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case g.effective && (g.agent == "" || len(args) > 0 || g.revision != 0):
			return usagef("--effective wants --agent, and neither SCOPE nor --revision; see %s --help", cmd.CommandPath())
		case !g.effective && len(args) == 0:
			return usagef("%s wants the argument SCOPE, or --effective and --agent; see %s --help", cmd.CommandPath(), cmd.CommandPath())
		}
		return g.with(func(client *clientv3.Client) error {
			eye, err := g.eye(cmd, client, g.showSecrets)
			if err != nil {
				return err
			}
			if g.effective {
				return g.showEffective(cmd, client, eye)
			}
			return g.showDocument(cmd, client, eye, args[0])
		})
	}
	return cmd
}

func (g *configGet) showDocument(cmd *cobra.Command, client *clientv3.Client, eye *eye, scope string) error {
	d, err := g.document(cmd.Context(), client, scope, g.revision)
	if err != nil {
		return err
	}
	if g.output.json() {
		v, err := eye.view(d)
		if err != nil {
			return err
		}
		return printJSON(cmd.OutOrStdout(), v)
	}
	if d.Deleted {
		return fmt.Errorf("revision %d of %s is a deletion: there is no document to show", d.Revision, scope)
	}
	text, err := eye.see(d.Data)
	if err != nil {
		return err
	}
	_, err = cmd.OutOrStdout().Write(text)
	return err
}

// document returns the current document, or that of a revision other than 0.
func (c *configFlags) document(ctx context.Context, client *clientv3.Client, scope string, revision int64) (d config.Document, err error) {
	err = c.etcd.ask(ctx, func(ctx context.Context) error {
		if revision != 0 {
			d, err = config.GetRevision(ctx, client, c.root(), scope, revision)
		} else {
			d, err = config.Get(ctx, client, c.root(), scope)
		}
		return err
	})
	if errors.Is(err, config.ErrNotFound) && revision == 0 {
		err = fmt.Errorf("%w; agentd config history %s tells whether it was deleted", err, scope)
	}
	return d, err
}
