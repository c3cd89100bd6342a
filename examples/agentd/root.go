package main

import (
	"os"
	"strings"

	"github.com/spf13/cobra"
)

const rootHelp = `agentd takes newline-delimited JSON records over HTTP and keeps them durably;
its plugins collect more. It registers itself in etcd, follows its
configuration there, and upgrades itself while it works.

A flag can also be given as the environment variable that the help names beside
it: --state-dir is AGENTD_STATE_DIR. A flag on the command line comes before the variable, the
variable before the default. Lists are separated by commas.

Exit codes: 0 success, 1 failure, 2 wrong usage, 3 neither yes nor no (agentd
release conflicts, agentd audit, agentd drift, agentd rollout), 4 to 6 how a
rollout ended, 7 something drifts (agentd drift), 128+n where the agent of a
supervising agentd run was ended by signal n (137 by SIGKILL); agentd upgrade and
agentd rollback end with 0 only if what was asked for was committed, or runs
already.`

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "agentd",
		Short:         "An agent that upgrades itself under load, and its operator's commands",
		Long:          rootHelp,
		Example:       "  agentd etcd --data /tmp/etcd\n  agentd run --id a1 --etcd http://127.0.0.1:2379 --state-dir /var/lib/agentd",
		Version:       version,
		Args:          cobra.ArbitraryArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return completeFlags(cmd, os.LookupEnv)
		},
		RunE: groupRun,
	}
	root.SetVersionTemplate("agentd {{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%w; see %s --help", err, cmd.CommandPath())
	})
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(
		newRunCommand(),
		newEtcdCommand(),
		newUpgradeCommand(),
		newRollbackCommand(),
		newHoldCommand(),
		newQuarantineCommand(),
		newFleetCommand(),
		newRolloutCommand(),
		newPinCommand(),
		newDriftCommand(),
		newKeysCommand(),
		newReleaseCommand(),
		newConfigCommand(),
		newPluginCommand(),
		newTaskCommand(),
		newHealthCommand(),
		newStatusCommand(),
		newDiagnoseCommand(),
		newAuditCommand(),
	)
	describeFlags(root)
	describeExits(root)
	return root
}

// describeExits adds the exit codes to the help of those commands that say
// nothing of them, having no others than most.
func describeExits(cmd *cobra.Command) {
	if (!cmd.HasSubCommands() || cmd.Flags().HasFlags()) && !strings.Contains(cmd.Long, exitHelp) {
		cmd.Long += "\n\n" + exitHelp + "s: 0 success, 1 failure, 2 wrong usage."
	}
	for _, sub := range cmd.Commands() {
		describeExits(sub)
	}
}

// exitHelp begins what a command says of its exit codes.
const exitHelp = "Exit code"

// groupRun answers for a command that has only subcommands.
func groupRun(cmd *cobra.Command, args []string) error {
	if err := groupArgs(cmd, args); err != nil {
		return err
	}
	return cmd.Help()
}

// groupArgs refuses a command that there is not, by its name.
func groupArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("%s has no command %q; see %s --help", cmd.CommandPath(), args[0], cmd.CommandPath())
	}
	return nil
}

// newGroup returns a command that has only subcommands.
func newGroup(use, short, example string, sub ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Example: example, Args: cobra.ArbitraryArgs, RunE: groupRun}
	cmd.AddCommand(sub...)
	return cmd
}

// takes refuses any number of arguments but one for each name.
func takes(names ...string) cobra.PositionalArgs {
	return between(len(names), names...)
}

// between refuses fewer than least arguments and more than there are names.
func between(least int, names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usagef("%s wants the argument %s, which is missing; see %s --help", cmd.CommandPath(), names[len(args)], cmd.CommandPath())
		case len(args) > len(names):
			return usagef("%s takes no more arguments than %d, found %d (%q is the first too many); see %s --help", cmd.CommandPath(), len(names), len(args), args[len(names)], cmd.CommandPath())
		}
		return nil
	}
}
