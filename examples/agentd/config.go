package main

import "github.com/spf13/cobra"

func newConfigCommand() *cobra.Command {
	cmd := newGroup("config", "Publish and show configuration",
		"  agentd config put --etcd http://127.0.0.1:2379 global agentd.yaml\n  agentd config get --etcd http://127.0.0.1:2379 global",
		newConfigPutCommand(),
		newConfigGetCommand(),
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

Agents refuse a document with an unknown field or a value out of range, keep
what they have, and say so in their status.`
	return cmd
}
