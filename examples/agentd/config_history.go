package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/config"
)

func newConfigHistoryCommand() *cobra.Command {
	var c configFlags
	var showSecrets bool
	cmd := &cobra.Command{
		Use:   "history SCOPE",
		Short: "List the documents that a scope has had: when, by whom and why",
		Long: `history lists the document of SCOPE (global, group/GROUP or agent/ID) and the 20
before it, the newest first. Who published a document with other tools, or with
an old agentd, is not known. -o json has the documents as well, with secret
values hidden unless --show-secrets; config get --revision shows one.`,
		Example: "  agentd config history --etcd http://127.0.0.1:2379 global",
		Args:    ofScope(takes("SCOPE")),
	}
	c.add(cmd)
	output := formatFlag(cmd)
	cmd.Flags().BoolVar(&showSecrets, "show-secrets", false, showSecretsHelp+", with -o json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return c.with(func(client *clientv3.Client) error {
			documents, err := c.history(cmd, client, args[0])
			if err != nil {
				return err
			}
			if !output.json() {
				return printHistory(cmd, documents)
			}
			eye, err := c.eye(cmd, client, showSecrets)
			if err != nil {
				return err
			}
			views := make([]documentView, len(documents))
			for i, d := range documents {
				if views[i], err = eye.view(d); err != nil {
					views[i].Document = ""
					_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "note: revision %d: %s\n", d.Revision, oneLine(err.Error()))
				}
			}
			return printJSON(cmd.OutOrStdout(), views)
		})
	}
	return cmd
}

// history returns the current document, if there is one, or its deletion, and
// those before it; what does not belong there is told once.
func (c *configFlags) history(cmd *cobra.Command, client *clientv3.Client, scope string) (documents []config.Document, err error) {
	err = c.etcd.ask(cmd.Context(), func(ctx context.Context) error {
		now, err := config.Latest(ctx, client, c.root(), scope)
		if err != nil {
			return err
		}
		past, err := config.History(ctx, client, c.root(), scope)
		if err != nil {
			return err
		}
		if past.Foreign > 0 {
			more := ""
			if past.Incomplete {
				more = " or more"
			}
			_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "note: %d%s keys do not belong to the history, such as %s: delete them\n", past.Foreign, more, oneLine(past.ForeignKey))
		}
		if documents = past.Documents; now.Revision > 0 {
			documents = append([]config.Document{now}, documents...)
		}
		return nil
	})
	if err == nil && len(documents) == 0 {
		err = fmt.Errorf("%w: %s never had one that is known of", config.ErrNotFound, scope)
	}
	return documents, err
}

func printHistory(cmd *cobra.Command, documents []config.Document) error {
	rows := [][]string{{"REVISION", "AT", "BY", "BYTES", "WHAT", "MESSAGE"}}
	for i, d := range documents {
		var what []string
		if d.Deleted {
			what = append(what, "deleted")
		} else if i == 0 {
			what = append(what, "current")
		}
		if d.Restores > 0 {
			what = append(what, fmt.Sprintf("revision %d again", d.Restores))
		}
		message := d.Message
		if d.Problem != "" {
			message = d.Problem
		}
		rows = append(rows, []string{
			fmt.Sprint(d.Revision), stamp(d.At), oneLine(dash(d.By)), fmt.Sprint(len(d.Data)), dash(strings.Join(what, ", ")), oneLine(dash(message)),
		})
	}
	return printTable(cmd.OutOrStdout(), rows)
}
