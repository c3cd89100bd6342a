package main

import (
	"errors"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// requiredAnnotation marks a flag that must be given; its value is an
// example.
const requiredAnnotation = "agentd_required"

// require marks flags as required; each comes with an example.
func require(cmd *cobra.Command, flag, example string) {
	f := cmd.Flags().Lookup(flag)
	if f.Annotations == nil {
		f.Annotations = map[string][]string{}
	}
	f.Annotations[requiredAnnotation] = []string{example}
}

// variableAnnotation marks a flag called version, which would else be cobra's
// own.
const variableAnnotation = "agentd_variable"

func takesVariable(cmd *cobra.Command, flag string) {
	cmd.Flags().Lookup(flag).Annotations = map[string][]string{variableAnnotation: {"yes"}}
}

// noVariableAnnotation marks a flag that only the command line sets.
const noVariableAnnotation = "agentd_no_variable"

// noVariable is for a flag that means something else than the flag of the same
// name of agentd run, whose variable is set on an agent's host.
func noVariable(cmd *cobra.Command, flag string) {
	cmd.Flags().Lookup(flag).Annotations = map[string][]string{noVariableAnnotation: {"yes"}}
}

// variable is the environment variable of a flag.
func variable(flag string) string {
	return "AGENTD_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// positive refuses what would be over as soon as it is signed.
func positive(flag string, d time.Duration) error {
	if d < time.Second {
		return usagef("--%s: want a duration of a second or more, such as 720h, found %v", flag, d)
	}
	return nil
}

// fromEnvironment reports whether the flag has a variable.
func fromEnvironment(f *pflag.Flag) bool {
	if f.Name == "help" || f.Name == "version" {
		return f.Annotations[variableAnnotation] != nil
	}
	return f.Annotations[noVariableAnnotation] == nil
}

// completeFlags sets the flags that the command line left alone from the
// environment, where an empty variable counts as unset, and then demands
// those that are required.
func completeFlags(cmd *cobra.Command, lookup func(string) (string, bool)) error {
	var errs []error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Changed && fromEnvironment(f) {
			if value, _ := lookup(variable(f.Name)); value != "" {
				if err := cmd.Flags().Set(f.Name, value); err != nil {
					errs = append(errs, usagef("the variable %s is %q, which --%s does not take: %w", variable(f.Name), value, f.Name, err))
				}
			}
		}
		if example := f.Annotations[requiredAnnotation]; example != nil && f.Value.String() == f.DefValue {
			errs = append(errs, usagef("%s wants --%s (or %s), such as --%s %s", cmd.CommandPath(), f.Name, variable(f.Name), f.Name, example[0]))
		}
	})
	return errors.Join(errs...)
}

// describeFlags names each flag's variable in the help.
func describeFlags(cmd *cobra.Command) {
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if !fromEnvironment(f) {
			return
		}
		note := " [$" + variable(f.Name)
		if f.Annotations[requiredAnnotation] != nil {
			note += ", required"
		}
		if !strings.HasSuffix(f.Usage, "]") {
			f.Usage += note + "]"
		}
	})
	for _, sub := range cmd.Commands() {
		describeFlags(sub)
	}
}
