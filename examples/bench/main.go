// Command bench measures what Perennial costs beside the bare mechanism that
// it is built on, both in the same run and in turns, so that the noise of the
// machine falls on both. BENCHMARKS.md says what each figure is and how to
// read it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends a process that does not manage to stop.
	context.AfterFunc(ctx, stop)
	// A reader that goes away, as head does, must not end this process before
	// it has ended those that it started.
	signal.Ignore(syscall.SIGPIPE)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		os.Exit(0)
	case errors.As(err, new(usageError)):
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	fmt.Fprintln(os.Stderr, "bench:", strings.ReplaceAll(err.Error(), "\n", "; "))
	os.Exit(1)
}

// usageError is a mistake in how the command was called.
type usageError struct{ error }

func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

const help = `bench measures Perennial beside the bare mechanism that it is built on, in one
run and in turns. It builds what it needs into a temporary directory, starts
an etcd of its own, takes free ports, and leaves nothing behind. Progress goes
to standard error, the figures to standard output. The whole takes about 50
minutes on two cores, --quick about six. rest and outage want 11,000 file
descriptors (ulimit -n) and 8 GiB of memory, plugins200 wants 5 GB of disk.

A figure beyond its target is a result, not a failure. Exit codes: 0 measured,
1 something could not be measured, 2 wrong usage.

Usage:
  go run ./examples/bench [flags]

Examples:
  go run ./examples/bench
  go run ./examples/bench --quick --only start,idle
  go run ./examples/bench -o json

Flags:
`

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var only, output string
	b := &bench{progress: stderr}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&only, "only", "", "measure these `figures` alone, separated by commas")
	flags.StringVar(&output, "o", "text", "output `format`: text or json")
	flags.BoolVar(&b.quick, "quick", false, "few repetitions, to see that it works: no figures to rely on")
	flags.IntVar(&b.agents, "agents", 0, "how many agents rest, outage and rollout simulate, a `number`; default 10000, with --quick 200")
	flags.BoolVar(&b.keep, "keep", false, "keep the temporary directory with the logs, and say where it is")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		_, _ = io.WriteString(stdout, help)
		flags.SetOutput(stdout)
		flags.PrintDefaults()
		_, _ = io.WriteString(stdout, "\nFigures:\n")
		for _, s := range sections() {
			_, _ = fmt.Fprintf(stdout, "  %-10s %s\n", s.name, s.title)
		}
		return err
	case err != nil:
		return usagef("%w; see --help", err)
	case flags.NArg() > 0:
		return usagef("want flags only, found %q; see --help", flags.Arg(0))
	case b.agents < 0:
		return usagef("--agents: want a positive number, found %d", b.agents)
	case output != "text" && output != "json":
		return usagef("-o: want text or json, found %q", output)
	}
	chosen, err := choose(only)
	if err != nil {
		return err
	}
	return b.run(ctx, chosen, newReporter(output, stdout))
}
