package main

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
)

type configDiff struct {
	configFlags
	from, to    int64
	agents      []string
	showSecrets bool
	output      *format
}

// diffView is a comparison as -o json prints it.
type diffView struct {
	Same bool   `json:"same"`
	Diff string `json:"diff"`
}

func newConfigDiffCommand() *cobra.Command {
	var d configDiff
	cmd := &cobra.Command{
		Use:   "diff [SCOPE [FILE]]",
		Short: "Compare configuration documents, or what two agents make of them",
		Long: `diff compares the document of SCOPE with FILE (- is standard input), or, with
--from and --to, two of its revisions; or, with --agent given twice, what the
layers come to for two agents. It prints nothing where both are the same.
Secret values are hidden; of those that differ the digits behind them differ
as well, which says nothing else and is made anew each time.`,
		Example: "  agentd config diff --etcd http://127.0.0.1:2379 global agentd.yaml\n" +
			"  agentd config diff --etcd http://127.0.0.1:2379 --from 12 global\n" +
			"  agentd config diff --etcd http://127.0.0.1:2379 --agent a1 --agent a2",
		Args: ofScope(between(0, "SCOPE", "FILE")),
	}
	d.add(cmd)
	d.output = formatFlag(cmd)
	f := cmd.Flags()
	f.Int64Var(&d.from, "from", 0, "the older `revision`")
	f.Int64Var(&d.to, "to", 0, "the newer `revision` (default the current one)")
	f.StringSliceVar(&d.agents, "agent", nil, "`id` of an agent; give two")
	f.BoolVar(&d.showSecrets, "show-secrets", false, showSecretsHelp)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		revisions := d.from != 0 || d.to != 0
		switch {
		case len(d.agents) == 2 && len(args) == 0 && !revisions:
		case len(d.agents) == 0 && len(args) == 2 && !revisions:
		case len(d.agents) == 0 && len(args) == 1 && d.from != 0:
		default:
			return usagef("%s wants SCOPE and FILE, or SCOPE and --from, or --agent twice; see %s --help", cmd.CommandPath(), cmd.CommandPath())
		}
		return d.with(func(client *clientv3.Client) error { return d.run(cmd, client, args) })
	}
	return cmd
}

func (d *configDiff) run(cmd *cobra.Command, client *clientv3.Client, args []string) error {
	eye, err := d.eye(cmd, client, d.showSecrets)
	if err != nil {
		return err
	}
	var old, next labelled
	if len(d.agents) == 2 {
		// The settings come redacted: there is nothing left to hide.
		eye.Key = []byte(rand.Text())
		if old, err = d.settings(cmd, client, eye, d.agents[0]); err == nil {
			next, err = d.settings(cmd, client, eye, d.agents[1])
		}
		eye.Off = true
	} else {
		old, next, err = d.documents(cmd, client, args)
	}
	if err != nil {
		return err
	}
	text, err := eye.diff(old, next)
	if err != nil {
		return err
	}
	if d.output.json() {
		return printJSON(cmd.OutOrStdout(), diffView{Same: text == "", Diff: text})
	}
	_, err = fmt.Fprint(cmd.OutOrStdout(), text)
	return err
}

// documents are the two that the arguments name.
func (d *configDiff) documents(cmd *cobra.Command, client *clientv3.Client, args []string) (old, next labelled, err error) {
	scope := args[0]
	label := func(revision int64) string { return fmt.Sprintf("%s, revision %d", scope, revision) }
	if len(args) == 2 {
		text, err := readDocument(cmd, args[1:])
		if err != nil {
			return old, next, err
		}
		now, err := d.get(cmd.Context(), client, scope)
		return labelled{label(now.Revision), now.Data}, labelled{args[1], text}, err
	}
	from, err := d.document(cmd.Context(), client, scope, d.from)
	if err != nil {
		return old, next, err
	}
	to, err := d.document(cmd.Context(), client, scope, d.to)
	return labelled{label(from.Revision), from.Data}, labelled{label(to.Revision), to.Data}, err
}

// settings are those of an agent, one a line.
func (d *configDiff) settings(cmd *cobra.Command, client *clientv3.Client, eye *eye, id string) (labelled, error) {
	v, err := d.effective(cmd, client, eye, id, nil)
	if err != nil {
		return labelled{}, err
	}
	var text strings.Builder
	for _, f := range v.Fields {
		value, err := json.Marshal(f.Value)
		if err != nil {
			return labelled{}, err
		}
		fmt.Fprintf(&text, "%s: %s\n", oneLine(f.Path), value)
	}
	return labelled{id, []byte(text.String())}, nil
}
