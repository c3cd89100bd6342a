package main

import (
	"bytes"
	"context"
	"fmt"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/config"
)

func newConfigPutCommand() *cobra.Command {
	var p configPublish
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "put SCOPE [FILE]",
		Short: "Publish a configuration document",
		Long: `put publishes FILE, or standard input if FILE is - or missing, as the document
of SCOPE: global, group/GROUP or agent/ID. The document before it is kept in
the history. It is first checked by the schemas of the live agents that it
concerns; what they would refuse is not published, and named by line, column
and path. It replaces what is there when the command begins: if somebody else
publishes in between, nothing happens. A text that is there already is not
published again.`,
		Example: "  agentd config put --etcd http://127.0.0.1:2379 --message 'more logs' --wait 1m global agentd.yaml\n" +
			"  echo 'log: {level: debug}' | agentd config put --etcd http://127.0.0.1:2379 agent/a1",
		Args: ofScope(between(1, "SCOPE", "FILE")),
		RunE: func(cmd *cobra.Command, args []string) error {
			document, err := readDocument(cmd, args[1:])
			if err != nil {
				return err
			}
			return p.with(func(client *clientv3.Client) error {
				return p.put(cmd, client, args[0], document, dryRun)
			})
		},
	}
	p.add(cmd)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "check it and show what would change, and publish nothing")
	return cmd
}

func (p *configPublish) put(cmd *cobra.Command, client *clientv3.Client, scope string, document []byte, dryRun bool) error {
	ctx := cmd.Context()
	now, change, err := p.begin(ctx, cmd.ErrOrStderr(), client, scope)
	if err != nil {
		return err
	}
	done := configOutcome{Scope: scope, Replaces: change.Replaces, Changed: change.Replaces == 0 || !bytes.Equal(now.Data, document), DryRun: dryRun}
	if !done.Changed {
		done.Revision = change.Replaces
		return p.conclude(cmd, client, done)
	}
	r, err := p.approve(ctx, client, scope, document, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	done.Review = &r
	if dryRun {
		return p.preview(cmd, client, now, document, done)
	}
	if done.Revision, err = p.publish(ctx, client, document, change); err != nil {
		return err
	}
	return p.conclude(cmd, client, done)
}

func (p *configPublish) publish(ctx context.Context, client *clientv3.Client, document []byte, change config.Change) (revision int64, err error) {
	err = p.etcd.ask(ctx, func(ctx context.Context) error {
		revision, err = config.Publish(ctx, client, p.root(), document, change)
		return err
	})
	return revision, err
}

// preview shows what would change, secrets hidden.
func (p *configPublish) preview(cmd *cobra.Command, client *clientv3.Client, now config.Document, document []byte, done configOutcome) error {
	if !p.output.json() {
		eye, err := p.eye(cmd, client, false)
		if err != nil {
			return err
		}
		text, err := eye.diff(labelled{"now", now.Data}, labelled{"then", document})
		if err != nil {
			return err
		}
		if _, err := fmt.Fprint(cmd.OutOrStdout(), text); err != nil {
			return err
		}
	}
	return p.conclude(cmd, client, done)
}
