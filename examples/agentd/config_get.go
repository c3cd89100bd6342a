package main

import (
	"bytes"
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/config"
)

// documentView is a document as -o json shows it.
type documentView struct {
	Scope    string `json:"scope"`
	Revision int64  `json:"revision"`
	Document string `json:"document"`
}

func newConfigGetCommand() *cobra.Command {
	var etcd etcdFlags
	var history bool
	cmd := &cobra.Command{
		Use:   "get SCOPE",
		Short: "Show a configuration document",
		Long: `get shows the document of SCOPE (global, group/GROUP or agent/ID) as it was
published, or with --history the documents before it, the newest first.`,
		Example: "  agentd config get --etcd http://127.0.0.1:2379 global\n" +
			"  agentd config get --etcd http://127.0.0.1:2379 --history -o json agent/a1",
		Args: takes("SCOPE"),
	}
	output := formatFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		client, err := etcd.client()
		if err != nil {
			return err
		}
		defer func() { _ = client.Close() }()
		var documents []config.Document
		err = etcd.ask(cmd.Context(), func(ctx context.Context) (err error) {
			if history {
				documents, err = config.History(ctx, client, etcd.root, args[0])
				return err
			}
			d, err := config.Get(ctx, client, etcd.root, args[0])
			documents = []config.Document{d}
			return err
		})
		if err != nil {
			return err
		}
		views := make([]documentView, len(documents))
		for i, d := range documents {
			views[i] = documentView{d.Scope, d.Revision, string(d.Data)}
		}
		switch {
		case output.json() && history:
			return printJSON(cmd.OutOrStdout(), views)
		case output.json():
			return printJSON(cmd.OutOrStdout(), views[0])
		}
		return printDocuments(cmd, documents, history)
	}
	etcd.addTimeout(cmd)
	cmd.Flags().BoolVar(&history, "history", false, "show the earlier documents instead")
	return cmd
}

// printDocuments writes one document as it is, so that it can be edited and
// put back, and several each behind a comment.
func printDocuments(cmd *cobra.Command, documents []config.Document, headed bool) error {
	for _, d := range documents {
		if headed {
			if _, err := fmt.Fprintf(cmd.OutOrStdout(), "# %s, revision %d\n", d.Scope, d.Revision); err != nil {
				return err
			}
		}
		text := d.Data
		if !bytes.HasSuffix(text, []byte{'\n'}) {
			text = append(bytes.Clone(text), '\n')
		}
		if _, err := cmd.OutOrStdout().Write(text); err != nil {
			return err
		}
	}
	return nil
}
