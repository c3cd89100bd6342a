package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/config"
)

// schemaView is a published schema as -o json lists it.
type schemaView struct {
	Digest   string   `json:"digest"`
	Bytes    int      `json:"bytes"`
	Agents   []string `json:"agents"`
	Versions []string `json:"versions"`
}

func newConfigSchemaCommand() *cobra.Command {
	var c configFlags
	var id string
	cmd := &cobra.Command{
		Use:   "schema [DIGEST]",
		Short: "Show the JSON Schema of the documents that agents take",
		Long: `schema lists the JSON Schemas (draft 2020-12) that agents have published, and
which live agents have them. With --agent, or a digest or the beginning of one,
it prints that schema, which editors can complete and check by.`,
		Example: "  agentd config schema --etcd http://127.0.0.1:2379\n" +
			"  agentd config schema --etcd http://127.0.0.1:2379 --agent a1 >agentd.schema.json",
		Args: between(0, "DIGEST"),
	}
	c.add(cmd)
	output := formatFlag(cmd)
	cmd.Flags().StringVar(&id, "agent", "", "`id` of the agent whose schema to print")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if id != "" && len(args) > 0 {
			return usagef("give either --agent or DIGEST; see %s --help", cmd.CommandPath())
		}
		return c.with(func(client *clientv3.Client) error {
			switch {
			case id != "":
				return c.schemaOf(cmd, client, id)
			case len(args) > 0:
				return c.schemaCalled(cmd, client, args[0])
			}
			return c.listSchemas(cmd, client, output)
		})
	}
	return cmd
}

func printSchema(cmd *cobra.Command, schema *config.Schema) error {
	var text bytes.Buffer
	if err := json.Indent(&text, schema.Data, "", "  "); err != nil {
		return err
	}
	_, err := fmt.Fprintln(cmd.OutOrStdout(), text.String())
	return err
}

func (c *configFlags) schemaOf(cmd *cobra.Command, client *clientv3.Client, id string) error {
	agents, err := c.agents(cmd.Context(), "agent/"+id)
	switch {
	case err != nil:
		return err
	case len(agents) == 0:
		return fmt.Errorf("no live agent called %s is in the registry; list those there are (agentd fleet)", id)
	case agents[0].schema == "":
		return fmt.Errorf("%s (%s) has published no schema: it has no configuration, or its release is older than schemas", id, dash(agents[0].version))
	}
	var schema *config.Schema
	err = c.etcd.ask(cmd.Context(), func(ctx context.Context) error {
		schema, err = config.ReadSchema(ctx, client, c.root(), agents[0].schema)
		return err
	})
	if err != nil {
		return err
	}
	return printSchema(cmd, schema)
}

func (c *configFlags) schemas(cmd *cobra.Command, client *clientv3.Client) (found config.Found, err error) {
	err = c.etcd.ask(cmd.Context(), func(ctx context.Context) error {
		found, err = config.Schemas(ctx, client, c.root())
		return err
	})
	if found.Damaged > 0 {
		_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "note: %d keys are passed over: %s\n", found.Damaged, oneLine(found.Example.Error()))
	}
	return found, err
}

func (c *configFlags) schemaCalled(cmd *cobra.Command, client *clientv3.Client, digest string) error {
	found, err := c.schemas(cmd, client)
	if err != nil {
		return err
	}
	fits := slices.DeleteFunc(found.Schemas, func(s *config.Schema) bool { return !strings.HasPrefix(s.Digest, digest) })
	if len(fits) != 1 {
		return fmt.Errorf("want one schema whose digest begins with %s, found %d: list them with agentd config schema", oneLine(digest), len(fits))
	}
	return printSchema(cmd, fits[0])
}

func (c *configFlags) listSchemas(cmd *cobra.Command, client *clientv3.Client, output *format) error {
	found, err := c.schemas(cmd, client)
	if err != nil {
		return err
	}
	agents, err := c.agents(cmd.Context(), "global")
	if err != nil {
		return err
	}
	views := make([]schemaView, 0, len(found.Schemas))
	for _, s := range found.Schemas {
		of := slices.DeleteFunc(slices.Clone(agents), func(a configAgent) bool { return a.schema != s.Digest })
		views = append(views, schemaView{Digest: s.Digest, Bytes: len(s.Data), Agents: idsOf(of), Versions: versionsOf(of)})
	}
	if output.json() {
		return printJSON(cmd.OutOrStdout(), views)
	}
	if len(views) == 0 {
		_, err := fmt.Fprintln(cmd.OutOrStdout(), "no agent has published a schema")
		return err
	}
	rows := [][]string{{"DIGEST", "BYTES", "AGENTS", "VERSIONS"}}
	for _, v := range views {
		rows = append(rows, []string{short(v.Digest), fmt.Sprint(v.Bytes), fmt.Sprint(len(v.Agents)), oneLine(dash(strings.Join(v.Versions, ", ")))})
	}
	return printTable(cmd.OutOrStdout(), rows)
}
