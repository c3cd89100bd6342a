package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/agent"
	"github.com/perennial-go/perennial/upgrade/release"
	"github.com/perennial-go/perennial/upgrade/rollout"
)

// exitDrift is the exit code where something drifts.
const exitDrift = 7

type driftFlags struct {
	etcd         etcdFlags
	releases     reader
	watch        rollout.DriftWatchConfig
	environments []string
	all, follow  bool
	output       *format
	unlearned    error // of the manifests that could not be read
}

func newDriftCommand() *cobra.Command {
	var d driftFlags
	cmd := &cobra.Command{
		Use:   "drift",
		Short: "Compare what the agents run with what their environments are pinned to",
		Long: `drift compares each agent with the pin of its environment (agentd pin): the version,
the digest of the manifest, the digest of the bytes that really run, the plugins that
are pinned, and the revision of its configuration. Per environment it shows what is
expected, what runs, and the worst status; below that each agent that differs, with
--all and in -o json every agent. The environment is the label env, "default" without one.

  ok        what is pinned runs
  rolling   a rollout that is under way accounts for it
  held      another version, and the agent's operator keeps it there
  unpinned  the environment has no pin
  unknown   it cannot be told, as of an environment none of whose agents is registered
  config    not the configuration that is published, or pinned
  plugin    a pinned plugin is missing, or other bytes
  version   another version
  digest    the right version of other bytes

With --repo the executables are those of the pinned releases' manifests, which are
read from the repository and verified: then it does not matter whether the pins name
them, nor who may write pins.

With --watch it stays until it is interrupted and prints anew what has changed, with
-o json an object a line.

Exit codes: 0 nothing drifts, 1 failure, 2 wrong usage, 3 nothing drifts as far as it
can be told (unknown, unpinned), 7 something drifts (digest, version, plugin, config).`,
		Example: `  agentd drift --etcd http://127.0.0.1:2379
  agentd drift --etcd http://127.0.0.1:2379 --environment production --all
  agentd drift --etcd http://127.0.0.1:2379 --repo repo --trust keys/release.pub
  agentd drift --etcd http://127.0.0.1:2379 --watch -o json`,
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error { return d.run(cmd) },
	}
	d.etcd.addTimeout(cmd)
	d.releases.add(cmd)
	d.output = formatFlag(cmd)
	f := cmd.Flags()
	f.StringVar(&d.watch.Fleet, "fleet", rollout.DefaultFleet, "`name` of the fleet whose rollout accounts for differences")
	f.StringSliceVar(&d.environments, "environment", nil, "only these `environments`")
	f.StringVar(&d.watch.Label, "env-label", rollout.EnvironmentLabel, "`label` that names an agent's environment")
	f.BoolVar(&d.watch.NoConfig, "no-config", false, "leave configuration out, as those have to who may not read it")
	f.BoolVar(&d.all, "all", false, "show every agent, and not only those that differ")
	f.BoolVar(&d.follow, "watch", false, "stay, and print what changes")
	return cmd
}

func (d *driftFlags) run(cmd *cobra.Command) error {
	directory, err := d.etcd.directory()
	if err != nil {
		return err
	}
	defer func() { _ = directory.Close() }()
	if err := d.learn(cmd); err != nil {
		return err
	}
	var found rollout.Drift
	err = d.etcd.ask(cmd.Context(), func(ctx context.Context) error {
		found, err = directory.Drift(ctx, d.watch)
		return err
	})
	if err != nil {
		return err
	}
	if d.follow {
		return d.stay(cmd, directory)
	}
	shown, err := d.choose(found)
	if err == nil {
		err = d.print(cmd.OutOrStdout(), shown)
	}
	if err != nil {
		return err
	}
	if err := driftVerdict(shown); err != nil || d.unlearned == nil {
		return err
	}
	return undecidedError{d.unlearned}
}

// learn has the executables of pinned releases be those of their manifests.
func (d *driftFlags) learn(cmd *cobra.Command) error {
	if d.releases.location == "" {
		return nil
	}
	client, err := d.releases.client()
	if err != nil {
		return err
	}
	known := map[release.Pin]map[string]string{}
	d.watch.Executables = func(pin release.Pin) (map[string]string, error) {
		if all := known[pin]; all != nil {
			return all, nil
		}
		// Half of the time is left to compare what is known without it.
		ctx, cancel := context.WithTimeout(cmd.Context(), d.etcd.timeout/2)
		defer cancel()
		found, err := client.Describe(ctx, pin.String())
		if err != nil {
			d.unlearned = fmt.Errorf("the executables of %s are not known, so that those that the pin names are compared: %w", pin.Version, err)
			say(cmd.ErrOrStderr(), "%s", oneLine(d.unlearned.Error()))
			return nil, err
		}
		known[pin] = executables(found.Manifest)
		return known[pin], nil
	}
	return nil
}

// choose leaves what was asked for.
func (d *driftFlags) choose(all rollout.Drift) (rollout.Drift, error) {
	if len(d.environments) == 0 {
		return all, nil
	}
	there := map[string]bool{}
	for _, e := range all.Environments {
		there[e.Environment] = true
	}
	for _, e := range d.environments {
		if !there[e] {
			return all, fmt.Errorf("environment %s has no agents and no pin; there are: %s", e, dash(strings.Join(slices.Sorted(maps.Keys(there)), ", ")))
		}
	}
	all.Environments = slices.DeleteFunc(slices.Clone(all.Environments), func(e rollout.EnvironmentDrift) bool {
		return !slices.Contains(d.environments, e.Environment)
	})
	all.Agents = slices.DeleteFunc(slices.Clone(all.Agents), func(a rollout.AgentDrift) bool {
		return !slices.Contains(d.environments, a.Environment)
	})
	return all, nil
}

// stay prints what changes until it is interrupted, or nobody reads it.
func (d *driftFlags) stay(cmd *cobra.Command, directory *agent.Directory) error {
	ctx, stop := context.WithCancelCause(cmd.Context())
	defer stop(nil)
	cfg := d.watch
	cfg.Every = watchPause
	cfg.Changed = func(now rollout.Drift) {
		shown, err := d.choose(now)
		if err == nil && d.output.json() {
			err = json.NewEncoder(printableJSON{cmd.OutOrStdout()}).Encode(shown)
		} else if err == nil {
			say(cmd.OutOrStdout(), "%s, the worst is %s", counted(len(shown.Agents), "agent"), shown.Worst())
			err = d.print(cmd.OutOrStdout(), shown)
		}
		if err != nil {
			stop(err)
		}
	}
	cfg.Stale = func(err error) {
		if err == nil {
			say(cmd.ErrOrStderr(), "etcd answers again")
			return
		}
		say(cmd.ErrOrStderr(), "what is shown is not up to date: %s", oneLine(err.Error()))
	}
	w, err := directory.DriftWatch(cfg)
	if err != nil {
		return err
	}
	err = w.Run(ctx)
	if cmd.Context().Err() != nil {
		return nil
	}
	return errors.Join(context.Cause(ctx), err)
}

func (d *driftFlags) print(w io.Writer, found rollout.Drift) error {
	if d.output.json() {
		return printJSON(w, found)
	}
	rows := [][]string{{"ENVIRONMENT", "EXPECTED", "ACTUAL", "STATUS", "AGENTS"}}
	for _, e := range found.Environments {
		rows = append(rows, []string{e.Environment, shortPin(e.Expected), actual(e.Actual), string(e.Status), byStatus(e.Agents)})
	}
	if err := printTable(w, rows); err != nil {
		return err
	}
	rows = [][]string{{"ENVIRONMENT", "AGENT", "STATUS", "WHAT", "EXPECTED", "ACTUAL", "WHY"}}
	for _, a := range found.Agents {
		for _, f := range a.Findings {
			rows = append(rows, []string{a.Environment, a.ID, string(f.Status), f.What, shortPin(f.Expected), shortPin(f.Actual), dash(f.Why)})
		}
		if len(a.Findings) == 0 && d.all {
			rows = append(rows, []string{a.Environment, a.ID, string(a.Status), "release", shortPin(a.Expected), shortPin(a.Actual), "-"})
		}
	}
	if len(rows) == 1 {
		return nil
	}
	_, _ = fmt.Fprintln(w)
	return printTable(w, rows)
}

// shortPin is a pin as people compare it, or another text as it is.
func shortPin(pin string) string {
	if version, digest, ok := strings.Cut(pin, "@"); ok {
		return version + "@" + short(digest)
	}
	if strings.Contains(pin, " ") { // revision 7
		return pin
	}
	return short(pin)
}

// actual are releases with their counts, the most frequent first.
func actual(counts map[string]int) string {
	releases := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		if n := counts[b] - counts[a]; n != 0 {
			return n
		}
		return strings.Compare(a, b)
	})
	var all []string
	for i, r := range releases {
		if i == 3 && len(releases) > 4 {
			all = append(all, fmt.Sprintf("and %d more", len(releases)-i))
			break
		}
		all = append(all, fmt.Sprintf("%s ×%d", shortPin(r), counts[r]))
	}
	return dash(strings.Join(all, ", "))
}

func byStatus(counts map[rollout.DriftStatus]int) string {
	var all []string
	for _, s := range rollout.DriftStatuses() {
		if counts[s] > 0 {
			all = append(all, fmt.Sprintf("%d %s", counts[s], s))
		}
	}
	return dash(strings.Join(all, ", "))
}

// driftVerdict is nil if nothing drifts.
func driftVerdict(d rollout.Drift) error {
	var drifts, undecided int
	var empty []string
	for _, e := range d.Environments {
		for s, n := range e.Agents {
			switch {
			case s.Drifts():
				drifts += n
			case s.Undecided():
				undecided += n
			}
		}
		if len(e.Agents) == 0 {
			empty = append(empty, e.Environment)
		}
	}
	switch {
	case len(d.Environments) == 0:
		return undecidedError{errors.New("no agent is registered and nothing is pinned: look whether that is the right etcd and --etcd-root")}
	case drifts > 0:
		return endedError{fmt.Errorf("want what is pinned, found %d of %s with something else", drifts, counted(len(d.Agents), "agent")), exitDrift}
	case undecided > 0:
		return undecidedError{fmt.Errorf("of %s it cannot be told whether what is meant to runs: pin the environments (agentd pin set), or give --repo, which has the executables of what is pinned", counted(undecided, "agent"))}
	case len(empty) > 0:
		return undecidedError{fmt.Errorf("no agent is registered of environment %s, and what its agents run is not known: look for them (agentd fleet), or take the pin away (agentd pin rm)", strings.Join(empty, ", "))}
	}
	return nil
}
