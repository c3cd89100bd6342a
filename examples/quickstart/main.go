// Command quickstart shows in one run what Perennial promises: a real agent
// registers, is configured, upgraded, handed bad releases and a new plugin,
// all under a load of which no request may fail and no record may be lost.
//
// It needs Go and nothing else: it builds the programs, keeps everything in
// a directory of its own, and takes free ports.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const help = `quickstart builds the reference agent, runs it with an etcd of its own, puts it
under load and takes it through its life, each step shown as it happens:

  it registers; its configuration is changed live; a bad configuration is
  refused; release 1.1.0 replaces 1.0.0; release 1.2.0 turns unhealthy in its
  probation and is rolled back; 1.3.0 crashes at its start and is refused; a
  tampered 1.4.0 is refused; a plugin is replaced while it works.

Exit code 0 means that each step did what it says, that no request failed, and
that every acknowledged record was found on disk; 1 that something did not,
2 wrong usage, 130 that it was interrupted.

Usage:
  go run ./examples/quickstart [flags]

Flags:
`

// options are the command line.
type options struct {
	clients int
	keep    bool
	json    bool
}

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr *os.File) int {
	opts, err := parse(args, stdout, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		return 2
	}
	// A closed pipe on standard output must not end this process before it
	// has ended the others.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()
	screen := newScreen(stdout)
	if opts.json {
		screen = newScreen(stderr)
	}
	s, err := newSite(opts, screen)
	if err != nil {
		screen.line(red, "quickstart: %v", err)
		return 1
	}
	result := s.tell(ctx)
	if opts.json {
		err = result.printJSON(stdout)
	} else {
		result.print(screen)
	}
	switch {
	case result.Interrupted:
		return 130
	case !result.OK || err != nil:
		return 1
	}
	return 0
}

func parse(args []string, stdout, stderr io.Writer) (options, error) {
	var o options
	var format string
	f := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Usage = func() {
		f.SetOutput(stdout)
		_, _ = fmt.Fprint(stdout, help)
		f.PrintDefaults()
	}
	f.BoolVar(&o.keep, "keep", false, "keep the directory, with all logs, also after a good end")
	f.IntVar(&o.clients, "clients", 16, "`number` of clients, a multiple of 4: half of them keep their connection, half of each kind post records")
	f.StringVar(&format, "o", "text", "`format` of the result: text, or json on standard output with the steps on standard error")
	refuse := func(format string, args ...any) (options, error) {
		err := fmt.Errorf(format, args...)
		_, _ = fmt.Fprintf(stderr, "quickstart: %v; see -h\n", err)
		return o, err
	}
	err := f.Parse(args)
	switch {
	case err != nil:
		return o, err
	case f.NArg() > 0:
		return refuse("want no arguments, found %q", f.Arg(0))
	case o.clients < 4 || o.clients > 256 || o.clients%4 != 0:
		return refuse("-clients: want a multiple of 4 up to 256, found %d", o.clients)
	case format != "text" && format != "json":
		return refuse("-o: want text or json, found %q", format)
	}
	o.json = format == "json"
	return o, nil
}

// story is what happens, in this order. Each step fails unless it has seen
// with its own eyes what its title says.
func (s *site) story() []step {
	return []step{
		{"build", "agentd is built in five versions, its plugins in three", 30 * time.Minute, s.build},
		{"start", "etcd, a key pair, four signed releases, two plugins and the agent are set up", 2 * time.Minute, s.start},
		{"register", "the agent registers", 3 * time.Minute, s.register},
		{"load", "clients begin to ask and to post records, without a pause until the end", 3 * time.Minute, s.beginLoad},
		{"configure", "its configuration is changed live", 3 * time.Minute, s.configure},
		{"bad-configuration", "a bad configuration is refused", 3 * time.Minute, s.refuseConfiguration},
		{"upgrade", "1.1.0 replaces 1.0.0 under load", 3 * time.Minute, s.upgrade},
		{"unhealthy-release", "1.2.0 turns unhealthy in its probation and is rolled back", 3 * time.Minute, s.rollBackUnhealthy},
		{"crashing-release", "1.3.0 crashes at its start and is refused", 3 * time.Minute, s.refuseCrashing},
		{"tampered-release", "1.4.0 was tampered with and is refused", 3 * time.Minute, s.refuseTampered},
		{"plugin", "the plugin hostmetrics is replaced while it works", 3 * time.Minute, s.replacePlugin},
	}
}

// step is one part of the story.
type step struct {
	name  string
	title string
	limit time.Duration
	// do returns what there is to tell of it.
	do func(ctx context.Context) (string, error)
}

// tell runs the story and ends in all cases what it began.
func (s *site) tell(ctx context.Context) *result {
	r := &result{Dir: s.dir, OK: true}
	s.screen.line(bold, "Perennial: an agent that upgrades itself under load (everything is in %s)", s.dir)
	steps := s.story()
	for i, step := range steps {
		s.screen.step(i+1, len(steps), step.title)
		done := s.perform(ctx, step)
		r.Steps = append(r.Steps, done)
		if !done.OK {
			break
		}
	}
	r.Interrupted = ctx.Err() != nil
	// What was begun is ended under all circumstances, so not under ctx.
	s.finish(context.WithoutCancel(ctx), r)
	r.judge(len(steps))
	s.leave(r)
	return r
}

// perform runs one step within its limit and shows how it ended.
func (s *site) perform(ctx context.Context, step step) stepResult {
	limited, cancel := context.WithTimeoutCause(ctx, step.limit, fmt.Errorf("the step took longer than %v", step.limit))
	defer cancel()
	began := time.Now()
	s.load.mark(step.name)
	said, err := step.do(limited)
	done := stepResult{Name: step.name, Title: step.title, At: began, Seconds: time.Since(began).Seconds(), Said: said, OK: err == nil}
	if load := s.load.mark(step.name); load.Requests > 0 {
		done.Load = &load
	}
	if err != nil {
		done.Said = err.Error()
		if ctx.Err() != nil {
			done.Said = "interrupted"
		}
		s.screen.failed("%s", done.Said)
		return done
	}
	s.screen.succeeded("%s", done.describe())
	return done
}
