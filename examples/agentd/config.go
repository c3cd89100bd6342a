package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/config"
)

func newConfigCommand() *cobra.Command {
	cmd := newGroup("config", "Publish, show, compare and take back configuration",
		"  agentd config put --etcd http://127.0.0.1:2379 global agentd.yaml\n  agentd config get --etcd http://127.0.0.1:2379 --effective --agent a1",
		newConfigPutCommand(),
		newConfigGetCommand(),
		newConfigEditCommand(),
		newConfigDiffCommand(),
		newConfigHistoryCommand(),
		newConfigRollbackCommand(),
		newConfigDeleteCommand(),
		newConfigSchemaCommand(),
	)
	cmd.Long = `An agent's configuration is merged from up to three kinds of documents in
etcd, the later over the earlier: global, group/GROUP for each of its groups,
and agent/ID. A document is YAML or JSON:

  log:
    level: info               # debug, info, warn or error
  http:
    read_timeout: 30s         # for the body of one request
  spool:
    max_file_bytes: 67108864  # where the next file is begun
  plugins:
    hostmetrics:
      enabled: false          # true if it is not set

Agents publish the schema of what they take. A document that live agents would
refuse is not published; one that they refuse all the same, because a value is
out of range, changes nothing: they keep what they have, and say so in their
status.`
	return cmd
}

// configFlags are those that all config commands have.
type configFlags struct {
	etcd etcdFlags
}

func (c *configFlags) add(cmd *cobra.Command) { c.etcd.addTimeout(cmd) }

// root is the prefix of all keys.
func (c *configFlags) root() string { return c.etcd.root }

// ofScope refuses a first argument that is no scope.
func ofScope(count cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := count(cmd, args); err != nil || len(args) == 0 {
			return err
		}
		if err := config.CheckScope(args[0]); err != nil {
			return usageError{err}
		}
		return nil
	}
}

// with calls f with a client of etcd.
func (c *configFlags) with(f func(*clientv3.Client) error) error {
	client, err := c.etcd.client()
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	return f(client)
}

// get returns the document of scope, or its deletion.
func (c *configFlags) get(ctx context.Context, client *clientv3.Client, scope string) (d config.Document, err error) {
	err = c.etcd.ask(ctx, func(ctx context.Context) error {
		d, err = config.Latest(ctx, client, c.root(), scope)
		return err
	})
	return d, err
}

// readDocument reads the file that args name, or standard input.
func readDocument(cmd *cobra.Command, args []string) ([]byte, error) {
	if len(args) == 0 || args[0] == "-" {
		return readAll(cmd.InOrStdin(), "standard input")
	}
	return readFile(args[0])
}

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("the document: %w", err)
	}
	defer func() { _ = f.Close() }()
	return readAll(f, name)
}

// readAll reads no further than a document may be long, so that a wrong file
// is not read to its end.
func readAll(from io.Reader, name string) ([]byte, error) {
	document, err := io.ReadAll(io.LimitReader(from, config.DefaultMaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("the document in %s: %w", name, err)
	}
	if len(document) > config.DefaultMaxBytes {
		return nil, fmt.Errorf("want a document of at most %d bytes, which is what etcd takes at once, found more in %s: split it by groups, or give the right file", config.DefaultMaxBytes, name)
	}
	return document, nil
}
