package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/config"
	"github.com/perennial-go/perennial/upgrade/release"
	"github.com/perennial-go/perennial/upgrade/rollout"
)

func newPinCommand() *cobra.Command {
	cmd := newGroup("pin", "Say what an environment is meant to run",
		"  agentd pin set --etcd http://127.0.0.1:2379 --repo repo --trust keys/release.pub production 1.2.0\n  agentd pin list --etcd http://127.0.0.1:2379",
		newPinSetCommand(), newPinGetCommand(), newPinListCommand(), newPinRmCommand())
	cmd.Long = `A pin says what the agents of an environment are meant to run; agentd drift
compares. No agent follows it: agentd upgrade and agentd rollout change what runs.
A rollout that is told so (--environment) moves the pins itself as it completes.

The environment of an agent is its label env (agentd run --label env=production),
and "default" without one.`
	return cmd
}

// environmentOf refuses arguments that begin with what no environment is called.
func environmentOf(count cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := count(cmd, args); err != nil {
			return err
		}
		p := rollout.Pin{Environment: args[0], Config: map[string]string{"global": "sha256:" + strings.Repeat("0", 64)}}
		if err := p.Validate(); err != nil {
			return usageError{err}
		}
		return nil
	}
}

type pinSet struct {
	configFlags
	chooser
	from       string
	scopes     []string
	by, reason string
	output     *format
}

func newPinSetCommand() *cobra.Command {
	var p pinSet
	cmd := &cobra.Command{
		Use:   "set ENVIRONMENT [VERSION|VERSION@sha256:DIGEST|RANGE]",
		Short: "Pin an environment to a release, as it is in the repository or as an agent runs it",
		Long: `set pins ENVIRONMENT to a release. With --repo it is looked up in the signed index,
and the executables that its manifest names are pinned as well: then also an agent
whose release was installed by hand, or whose executable was exchanged, is compared by
the bytes that it runs. Without --repo a whole pin is needed (agentd release resolve
prints it). With --from it is what that agent runs: its release, its executable and
its plugins.

--config SCOPE (global, group/GROUP or agent/ID) pins the document of configuration
that is published there now. What the command does not name stays as it was pinned.`,
		Example: `  agentd pin set --etcd http://127.0.0.1:2379 --repo repo --trust keys/release.pub --reason 'summer release' production 1.2.0
  agentd pin set --etcd http://127.0.0.1:2379 --from a1 test
  agentd pin set --etcd http://127.0.0.1:2379 --config group/web production`,
		Args: environmentOf(between(1, "ENVIRONMENT", "VERSION")),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch n := len(args); {
			case n == 2 && p.from != "":
				return usagef("--from takes the release from an agent: leave VERSION out, or --from")
			case n == 1 && p.from == "" && len(p.scopes) == 0:
				return usagef("%s wants the argument VERSION, --from or --config; see %s --help", cmd.CommandPath(), cmd.CommandPath())
			}
			if err := p.check(args[1:]); err != nil {
				return err
			}
			return p.with(func(client *clientv3.Client) error { return p.set(cmd, client, args) })
		},
	}
	p.configFlags.add(cmd)
	p.chooser.add(cmd)
	p.output = formatFlag(cmd)
	f := cmd.Flags()
	f.StringVar(&p.from, "from", "", "`id` of an agent that runs what is meant to run")
	f.StringSliceVar(&p.scopes, "config", nil, "pin the published document of this `scope` as well; may be repeated")
	noVariable(cmd, "config")
	f.StringVar(&p.by, "by", "", "who does it, for the record (default user@host)")
	f.StringVar(&p.reason, "reason", "", "why, for the record")
	return cmd
}

// check refuses what names no release, or no scope.
func (p *pinSet) check(which []string) error {
	for _, scope := range p.scopes {
		if err := config.CheckScope(scope); err != nil {
			return usagef("--config: %w", err)
		}
	}
	if len(which) == 0 {
		return nil
	}
	if err := releaseArgument(which[0]); err != nil || p.location != "" {
		return err
	}
	if _, err := release.ParsePin(which[0]); err != nil {
		return usagef("VERSION: %w: give the whole pin, or --repo and --trust, where it is looked up", err)
	}
	return nil
}

func (p *pinSet) set(cmd *cobra.Command, client *clientv3.Client, args []string) error {
	ctx, environment := cmd.Context(), args[0]
	before, err := p.present(ctx, client, environment, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	next := before.Pin
	next.Environment, next.Rollout, next.At = environment, "", time.Now().UTC().Truncate(time.Second)
	next.By, next.Reason = p.by, p.reason
	if next.By == "" {
		next.By = requester()
	}
	if len(args) == 2 {
		err = p.fromRepository(ctx, args[1], &next, cmd.ErrOrStderr())
	} else if p.from != "" {
		err = p.fromAgent(ctx, &next)
	}
	for _, scope := range p.scopes {
		if err != nil {
			return err
		}
		err = p.document(ctx, client, scope, &next)
	}
	if err != nil {
		return err
	}
	if err := next.Validate(); err != nil {
		return usageError{err}
	}
	err = p.etcd.ask(ctx, func(ctx context.Context) error {
		before.Revision, err = rollout.SetPin(ctx, client, p.root(), next, before.Revision)
		return err
	})
	if err != nil {
		return err
	}
	next.Schema = rollout.Schema
	return printPin(cmd.OutOrStdout(), rollout.PinAt{Pin: next, Revision: before.Revision}, p.output)
}

// present is the pin that is there, or none.
func (c *configFlags) present(ctx context.Context, client *clientv3.Client, environment string, w io.Writer) (now rollout.PinAt, err error) {
	now, err = c.pin(ctx, client, environment)
	switch {
	case errors.Is(err, rollout.ErrNoPin):
		return rollout.PinAt{}, nil
	case errors.Is(err, rollout.ErrPin):
		say(w, "what was there is replaced whole: %s", oneLine(err.Error()))
		return rollout.PinAt{Revision: now.Revision}, nil
	}
	return now, err
}

// pin reads the pin of an environment.
func (c *configFlags) pin(ctx context.Context, client *clientv3.Client, environment string) (now rollout.PinAt, err error) {
	err = c.etcd.ask(ctx, func(ctx context.Context) error {
		now, err = rollout.GetPin(ctx, client, c.root(), environment)
		return err
	})
	return now, err
}

func (p *pinSet) fromRepository(ctx context.Context, which string, next *rollout.Pin, w io.Writer) error {
	if p.location == "" {
		pin, err := release.ParsePin(which)
		if err != nil {
			return usageError{err}
		}
		if pin != next.Release {
			next.Binaries = nil
		}
		next.Release, next.Program = pin, p.name
		say(w, "executables are not pinned: that takes --repo")
		return nil
	}
	client, err := p.client()
	if err != nil {
		return err
	}
	if which, err = p.exact(ctx, client, which, w); err != nil {
		return err
	}
	d, err := client.Describe(ctx, which)
	if err != nil {
		return err
	}
	if d.Yanked != "" {
		return fmt.Errorf("want a release that is offered, found %s withdrawn: %s", d.Pin.Version, oneLine(d.Yanked))
	}
	next.Release, next.Program, next.Binaries = d.Pin, p.name, executables(d.Manifest)
	return nil
}

// executables are the digests of a release's executables, as a pin has them.
func executables(m *release.Manifest) map[string]string {
	all := map[string]string{}
	for _, platform := range m.Platforms {
		all[platform.String()] = platform.SHA256
	}
	return all
}

func (p *pinSet) fromAgent(ctx context.Context, next *rollout.Pin) error {
	directory, err := p.etcd.directory()
	if err != nil {
		return err
	}
	h := registryHost{etcd: &p.etcd, directory: directory, id: p.from}
	defer h.close()
	e, err := h.entry(ctx)
	if err != nil {
		return err
	}
	as, err := e.PinOf(next.Environment)
	if err != nil {
		return err
	}
	next.Release, next.Program, next.Binaries, next.Plugins = as.Release, as.Program, as.Binaries, as.Plugins
	return nil
}

// document pins what is published for a scope.
func (p *pinSet) document(ctx context.Context, client *clientv3.Client, scope string, next *rollout.Pin) error {
	d, err := p.get(ctx, client, scope)
	if err == nil && (d.Revision == 0 || d.Deleted) {
		err = fmt.Errorf("config %s: %w: there is none to pin", scope, config.ErrNotFound)
	}
	if err != nil {
		return err
	}
	sum := sha256.Sum256(d.Data)
	next.Config = maps.Clone(next.Config)
	if next.Config == nil {
		next.Config = map[string]string{}
	}
	next.Config[scope] = "sha256:" + hex.EncodeToString(sum[:])
	return nil
}

func newPinGetCommand() *cobra.Command {
	var c configFlags
	cmd := &cobra.Command{
		Use:   "get ENVIRONMENT",
		Short: "Show what an environment is pinned to",
		Long:  "get shows the pin of ENVIRONMENT: its release, executables, plugins and documents of\nconfiguration, who set it, when and why.",

		Example: "  agentd pin get --etcd http://127.0.0.1:2379 production",
		Args:    environmentOf(takes("ENVIRONMENT")),
	}
	c.add(cmd)
	output := formatFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return c.with(func(client *clientv3.Client) error {
			now, err := c.pin(cmd.Context(), client, args[0])
			if err != nil {
				return err
			}
			return printPin(cmd.OutOrStdout(), now, output)
		})
	}
	return cmd
}

func printPin(w io.Writer, p rollout.PinAt, output *format) error {
	if output.json() {
		return printJSON(w, p)
	}
	by := dash(p.By)
	if p.Rollout != "" {
		by += ", rollout " + p.Rollout
	}
	rows := [][]string{
		{"ENVIRONMENT", p.Environment},
		{"release", dash(strings.TrimSpace(p.Program + " " + p.Release.String()))},
		{"by", by}, {"at", stamp(p.At)}, {"reason", dash(p.Reason)},
	}
	for _, part := range []struct {
		what string
		all  map[string]string
	}{{"executable", p.Binaries}, {"plugin", p.Plugins}, {"config", p.Config}} {
		for _, name := range slices.Sorted(maps.Keys(part.all)) {
			rows = append(rows, []string{part.what + " " + name, part.all[name]})
		}
	}
	return printTable(w, rows)
}

func newPinListCommand() *cobra.Command {
	var c configFlags
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the environments that are pinned, and to what",
		Long:    "list shows the pins of all environments, by name. One that cannot be used is told on\nstandard error, and makes it end with 1.",
		Example: "  agentd pin list --etcd http://127.0.0.1:2379",
		Args:    takes(),
	}
	c.add(cmd)
	output := formatFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return c.with(func(client *clientv3.Client) error {
			var all []rollout.PinAt
			err := c.etcd.ask(cmd.Context(), func(ctx context.Context) (err error) {
				all, err = rollout.Pins(ctx, client, c.root())
				return err
			})
			if err != nil && !errors.Is(err, rollout.ErrPin) {
				return err
			}
			if len(all) == 0 && err == nil {
				say(cmd.ErrOrStderr(), "no environment is pinned: agentd pin set does that, or agentd rollout start --environment")
			}
			return errors.Join(printPins(cmd.OutOrStdout(), all, output), err)
		})
	}
	return cmd
}

func printPins(w io.Writer, all []rollout.PinAt, output *format) error {
	if output.json() {
		return printJSON(w, all)
	}
	rows := [][]string{{"ENVIRONMENT", "RELEASE", "PLUGINS", "DOCUMENTS", "AT", "BY", "REASON"}}
	for _, p := range all {
		rows = append(rows, []string{
			p.Environment, dash(p.Release.String()), fmt.Sprint(len(p.Plugins)), fmt.Sprint(len(p.Config)),
			stamp(p.At), dash(p.By), dash(p.Reason),
		})
	}
	return printTable(w, rows)
}

func newPinRmCommand() *cobra.Command {
	var c configFlags
	cmd := &cobra.Command{
		Use:     "rm ENVIRONMENT",
		Short:   "Take the pin of an environment away",
		Long:    "rm takes the pin of ENVIRONMENT away, also one that cannot be used. Its agents are\ncompared with nothing then, which agentd drift tells as unpinned.",
		Example: "  agentd pin rm --etcd http://127.0.0.1:2379 test",
		Args:    environmentOf(takes("ENVIRONMENT")),
	}
	c.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return c.with(func(client *clientv3.Client) error {
			now, err := c.pin(cmd.Context(), client, args[0])
			if err != nil && !errors.Is(err, rollout.ErrPin) {
				return err
			}
			err = c.etcd.ask(cmd.Context(), func(ctx context.Context) error {
				return rollout.DeletePin(ctx, client, c.root(), args[0], now.Revision)
			})
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is not pinned any more; it was to %s\n", args[0], dash(now.Release.String()))
			return err
		})
	}
	return cmd
}
