package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/examples/agentd/internal/access"
)

// accessFlags are common to what changes users and roles.
type accessFlags struct {
	etcd         etcdFlags
	passwords    string
	certificates bool
	dryRun       bool
	// dispatch and control are of the agents that are named.
	dispatch, control bool
	output            *format
}

func (a *accessFlags) add(cmd *cobra.Command) {
	a.etcd.addTimeout(cmd)
	f := cmd.Flags()
	f.StringVar(&a.passwords, "passwords", "", "`directory` for the passwords, one file for each user, mode 0600; made if it is missing")
	f.BoolVar(&a.certificates, "certificates", false, "make users that log in by the common name of their certificate and have no password, but for root; etcd must run with --client-cert-auth")
	f.BoolVar(&a.dryRun, "dry-run", false, "print what would be done and do nothing")
	f.BoolVar(&a.dispatch, "dispatch", false, "let these agents assign tasks as well, by the role dispatcher: each of them can then have every agent run what its plugins can do; one or three hosts that are better guarded are enough")
	f.BoolVar(&a.control, "control", false, "let these agents move rollouts on as well, by the role controller: each of them can then have every agent run any release that its keys and policy allow, with any configuration; one or three hosts that are better guarded are enough")
	a.output = formatFlag(cmd)
	require(cmd, "passwords", "/root/etcd-passwords")
}

const accessHelp = `
An agent's user is called agent-ID, and may use that agent's keys only, its own
tasks among them; with --dispatch it may also assign those of all, and with
--control move rollouts on. Names of another --etcd-root than the default begin with it. What exists already is
left, or corrected where it differs; running it again changes nothing.`

func newEtcdBootstrapCommand() *cobra.Command {
	var (
		a                             accessFlags
		agents                        []string
		operators, controllers, reads []string
		dispatchers                   []string
		prepare, lockOut              bool
	)
	cmd := &cobra.Command{
		Use:   "bootstrap",
		Short: "Create the roles and users of a fleet in etcd, and turn authentication on",
		Long: `bootstrap makes the roles agent, operator, controller, dispatcher and reader, a
user for each agent and each name given, and root, and turns authentication on.
Once that is on, call it as root: with root's certificate, or --etcd-user root and
the password file that it wrote the first time.
` + accessHelp,
		Example: `  agentd etcd bootstrap --etcd https://etcd1:2379 --etcd-ca ca.pem --etcd-cert root.pem --etcd-key root.pem \
    --certificates --passwords /root/etcd-passwords --agent a1,a2 --operator alice`,
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			fleet, err := fleetAt(a.etcd.root)
			if err != nil {
				return err
			}
			w, err := a.wanted(fleet, agents)
			if err != nil {
				return err
			}
			w.Enable = !prepare
			people := map[string][]string{} // roles by name
			for _, r := range []struct {
				role  string
				names []string
			}{{access.Operator, operators}, {access.Controller, controllers}, {access.Dispatcher, dispatchers}, {access.Reader, reads}} {
				for _, n := range r.names {
					if err := access.CheckPerson(n); err != nil {
						return usagef("--%s: %w", r.role, err)
					}
					people[n] = append(people[n], fleet.Name(r.role))
				}
			}
			for _, n := range slices.Sorted(maps.Keys(people)) {
				w.Users = append(w.Users, access.User{Name: fleet.Name(n), Roles: slices.Compact(people[n])})
			}
			if !lockOut {
				if err := a.refuseStranded(cmd.Context(), fleet, w); err != nil {
					return err
				}
			}
			return a.apply(cmd, w)
		},
	}
	a.add(cmd)
	f := cmd.Flags()
	f.StringSliceVar(&agents, "agent", nil, "`id` of an agent; may be repeated")
	f.StringSliceVar(&operators, "operator", []string{access.Operator}, "`name` of a user who operates the fleet; may be repeated")
	f.StringSliceVar(&controllers, "controller", []string{access.Controller}, "`name` of a user that advances rollouts; may be repeated")
	f.StringSliceVar(&dispatchers, "dispatcher", []string{access.Dispatcher}, "`name` of a user that assigns tasks, for agentd task dispatcher; may be repeated")
	f.StringSliceVar(&reads, "reader", []string{access.Reader}, "`name` of a user who reads the registry, but no configuration; may be repeated")
	f.BoolVar(&prepare, "prepare", false, "do everything but turn authentication on")
	f.BoolVar(&lockOut, "lock-out", false, "turn authentication on although agents are registered that have no user")
	return cmd
}

// works are the roles that the agents which are named bear beside their own.
func (a *accessFlags) works() []string {
	var roles []string
	if a.dispatch {
		roles = append(roles, access.Dispatcher)
	}
	if a.control {
		roles = append(roles, access.Controller)
	}
	return roles
}

// fleetAt is the fleet of --etcd-root.
func fleetAt(root string) (access.Fleet, error) {
	fleet, err := access.NewFleet(root)
	if err != nil {
		return fleet, usagef("--etcd-root: %w", err)
	}
	return fleet, nil
}

// refuseStranded ends a bootstrap that would lock out agents that run.
func (a *accessFlags) refuseStranded(ctx context.Context, fleet access.Fleet, w access.Wanted) error {
	client, err := a.etcd.client()
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	var stranded []string
	err = a.etcd.ask(ctx, func(ctx context.Context) (err error) {
		stranded, err = access.Stranded(ctx, client, fleet, w)
		return err
	})
	if n := len(stranded); err == nil && n > 0 {
		if n > maxStranded {
			stranded = append(stranded[:maxStranded:maxStranded], "…")
		}
		return fmt.Errorf("%d agents are registered that would have no user, and so be locked out: %s; nothing was changed: name them with --agent and give them their certificate or password first (--prepare), or lock them out with --lock-out",
			n, strings.Join(stranded, ", "))
	}
	return err
}

// maxStranded bounds the agents that a message names.
const maxStranded = 10

func newEtcdAddAgentCommand() *cobra.Command {
	var a accessFlags
	cmd := &cobra.Command{
		Use:   "add-agent ID...",
		Short: "Create the roles and users of further agents in etcd",
		Long:  "add-agent makes the roles and users of agents, for an etcd that bootstrap has\nprepared. Call it as root.\n" + accessHelp,
		Example: "  agentd etcd add-agent --etcd http://127.0.0.1:2379 --etcd-user root --etcd-password-file /root/etcd-passwords/root \\\n" +
			"    --passwords /root/etcd-passwords a3 a4",
		Args: takesSome("ID"),
		RunE: func(cmd *cobra.Command, ids []string) error {
			fleet, err := fleetAt(a.etcd.root)
			if err != nil {
				return err
			}
			w, err := a.wanted(fleet, ids)
			if err != nil {
				return err
			}
			return a.apply(cmd, w)
		},
	}
	a.add(cmd)
	return cmd
}

// takesSome refuses no arguments at all.
func takesSome(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usagef("%s wants one or more arguments %s, found none; see %s --help", cmd.CommandPath(), name, cmd.CommandPath())
		}
		return nil
	}
}

// wanted is the roles of the fleet and what these agents need.
func (a *accessFlags) wanted(fleet access.Fleet, agents []string) (access.Wanted, error) {
	w := access.Wanted{Roles: fleet.Roles(), Passwords: access.Passwords(a.passwords), Certificates: a.certificates}
	slices.Sort(agents)
	for _, id := range slices.Compact(agents) {
		if err := access.CheckName(id); err != nil {
			return w, usagef("agent id: %w", err)
		}
		role, user := fleet.Agent(id, a.works()...)
		w.Roles, w.Users = append(w.Roles, role), append(w.Users, user)
	}
	return w, nil
}

// changes is the answer in JSON.
type changes struct {
	Schema int           `json:"schema"`
	DryRun bool          `json:"dry_run,omitempty"`
	Steps  []access.Step `json:"steps"`
}

// apply makes etcd as wanted and prints what that took.
func (a *accessFlags) apply(cmd *cobra.Command, w access.Wanted) error {
	client, err := a.etcd.client()
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	var steps []access.Step
	err = a.etcd.ask(cmd.Context(), func(ctx context.Context) (err error) {
		steps, err = access.Diff(ctx, client, w)
		return err
	})
	if err != nil {
		return err
	}
	enabled := false
	for i, s := range steps {
		if a.dryRun {
			break
		}
		if !a.output.json() {
			say(cmd.ErrOrStderr(), "%d of %d: %s", i+1, len(steps), s)
		}
		if err := a.etcd.ask(cmd.Context(), func(ctx context.Context) error { return s.Do(ctx, client) }); err != nil {
			return fmt.Errorf("%w; %d of %d steps were made, and running it again goes on from there", err, i, len(steps))
		}
		enabled = enabled || s.Action == "enable"
	}
	if enabled && w.Certificates {
		if err := a.proveCertificate(cmd.Context(), client, w); err != nil {
			return err
		}
	}
	if a.output.json() {
		return printJSON(cmd.OutOrStdout(), changes{1, a.dryRun, append([]access.Step{}, steps...)})
	}
	return a.print(cmd, steps)
}

func (a *accessFlags) print(cmd *cobra.Command, steps []access.Step) error {
	out := cmd.OutOrStdout()
	if len(steps) == 0 {
		_, err := fmt.Fprintln(out, "nothing to do: roles, users and authentication are as they are to be")
		return err
	}
	if a.dryRun {
		for _, s := range steps {
			if _, err := fmt.Fprintln(out, "would", s); err != nil {
				return err
			}
		}
		return nil
	}
	_, err := fmt.Fprintf(out, "%d changes made\n", len(steps))
	return err
}

// proveCertificate makes sure that certificates do log in, now that nobody
// gets in without: else authentication is turned off again by root's password.
func (a *accessFlags) proveCertificate(ctx context.Context, client *clientv3.Client, w access.Wanted) error {
	why := a.etcd.ask(ctx, func(ctx context.Context) error {
		_, err := client.UserList(ctx)
		return err
	})
	if why == nil {
		return nil
	}
	password, err := w.RootPassword()
	if err == nil {
		cfg, errConfig := a.etcd.config()
		if errConfig != nil {
			return errConfig
		}
		cfg.Username, cfg.Password, cfg.PasswordFile = "root", password, ""
		var back *clientv3.Client
		if back, err = cfg.Dial(); err == nil {
			err = a.etcd.ask(ctx, func(ctx context.Context) error {
				_, err := back.AuthDisable(ctx)
				return err
			})
			_ = back.Close()
		}
	}
	if err != nil {
		return fmt.Errorf("authentication is on, but the certificate does not log in as root, and turning it off again failed: %w", errors.Join(why, err))
	}
	return fmt.Errorf("the certificate does not log in as root, so authentication was turned off again (%w): run etcd with --client-cert-auth, and give a certificate with the common name root", why)
}

func newEtcdRemoveAgentCommand() *cobra.Command {
	var etcd etcdFlags
	cmd := &cobra.Command{
		Use:   "remove-agent ID...",
		Short: "Take the access of agents away",
		Long: `remove-agent deletes the users and roles of agents, so that they can no longer
log in. What they have registered goes with their lease. A watch that stands
goes on until its connection ends. Call it as root.`,
		Example: "  agentd etcd remove-agent --etcd http://127.0.0.1:2379 --etcd-user root --etcd-password-file /root/etcd-passwords/root a4",
		Args:    takesSome("ID"),
		RunE: func(cmd *cobra.Command, ids []string) error {
			fleet, err := fleetAt(etcd.root)
			if err != nil {
				return err
			}
			var names []string
			for _, id := range ids {
				if err := access.CheckName(id); err != nil {
					return usagef("agent id: %w", err)
				}
				names = append(names, fleet.AgentName(id))
			}
			client, err := etcd.client()
			if err != nil {
				return err
			}
			defer func() { _ = client.Close() }()
			var removed []string
			err = etcd.ask(cmd.Context(), func(ctx context.Context) (err error) {
				removed, err = access.Remove(ctx, client, names)
				return err
			})
			if err != nil {
				return err
			}
			if len(removed) == 0 {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), "nothing to do: there are no such users")
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "removed", strings.Join(removed, ", "))
			return err
		},
	}
	etcd.addTimeout(cmd)
	return cmd
}
