package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/config"
)

// maxDocument is more than any agent takes, so that a wrong file is not read
// to its end.
const maxDocument = 4 << 20

func newConfigPutCommand() *cobra.Command {
	var etcd etcdFlags
	cmd := &cobra.Command{
		Use:   "put SCOPE [FILE]",
		Short: "Publish a configuration document",
		Long: `put publishes FILE, or standard input if FILE is - or missing, as the document
of SCOPE: global, group/GROUP or agent/ID. The document before it is kept in
the history. Only its form is checked here; the agents check its content and
say in agentd fleet if they refuse it.`,
		Example: "  agentd config put --etcd http://127.0.0.1:2379 global agentd.yaml\n" +
			"  echo 'log: {level: debug}' | agentd config put --etcd http://127.0.0.1:2379 agent/a1",
		Args: between(1, "SCOPE", "FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			document, err := readDocument(cmd, args[1:])
			if err != nil {
				return err
			}
			client, err := etcd.client()
			if err != nil {
				return err
			}
			defer func() { _ = client.Close() }()
			var revision int64
			err = etcd.ask(cmd.Context(), func(ctx context.Context) (err error) {
				revision, err = config.Put(ctx, client, etcd.root, args[0], document)
				return err
			})
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "published %s as revision %d\n", args[0], revision)
			return err
		},
	}
	etcd.addTimeout(cmd)
	return cmd
}

func readDocument(cmd *cobra.Command, args []string) ([]byte, error) {
	from, name := cmd.InOrStdin(), "standard input"
	if len(args) == 1 && args[0] != "-" {
		f, err := os.Open(args[0])
		if err != nil {
			return nil, fmt.Errorf("the document: %w", err)
		}
		defer func() { _ = f.Close() }()
		from, name = f, args[0]
	}
	document, err := io.ReadAll(io.LimitReader(from, maxDocument+1))
	if err != nil {
		return nil, fmt.Errorf("the document in %s: %w", name, err)
	}
	if len(document) > maxDocument {
		return nil, fmt.Errorf("want a document of at most %d bytes, found more in %s: give the right file", maxDocument, name)
	}
	return document, nil
}
