package main

import (
	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/agent"
)

// taskFlags say what an agent does about tasks.
type taskFlags struct {
	concurrency int
	noDispatch  bool
}

func (t *taskFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.IntVar(&t.concurrency, "tasks", 4, "how many tasks the plugins run at once; 0 takes none")
	f.BoolVar(&t.noDispatch, "no-dispatch", false, "do not stand for election as the agent that assigns tasks; one that etcd does not permit it leaves it to others anyhow")
}

func (t *taskFlags) config() (agent.Tasks, error) {
	if t.concurrency < 0 || t.concurrency > maxTasks {
		return agent.Tasks{}, usagef("--tasks: want 0 to %d, found %d", maxTasks, t.concurrency)
	}
	return agent.Tasks{Off: t.concurrency == 0, Concurrency: t.concurrency, Dispatch: !t.noDispatch}, nil
}

// maxTasks is what an agent takes at most.
const maxTasks = 10_000
