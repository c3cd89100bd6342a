package main

import (
	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/agent"
	"github.com/perennial-go/perennial/upgrade/rollout"
)

// rolloutRunFlags say what an agent has to do with rollouts.
type rolloutRunFlags struct {
	fleet      string
	off        bool
	controller bool
	hooks      webhookFlags
}

func (r *rolloutRunFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&r.fleet, "fleet", rollout.DefaultFleet, "`name` of the fleet whose rollouts it follows")
	f.BoolVar(&r.off, "no-rollouts", false, "follow no rollout")
	f.BoolVar(&r.controller, "rollout-controller", false, "stand for election as the one that moves the fleet's rollouts on; one that etcd does not permit it leaves it to others")
	r.hooks.add(cmd)
}

func (r *rolloutRunFlags) config() (agent.Rollout, error) {
	hooks, err := r.hooks.config()
	switch {
	case err != nil:
		return agent.Rollout{}, err
	case len(hooks) > 0 && !r.controller:
		return agent.Rollout{}, usagef("--webhook is told by the controller of rollouts: give --rollout-controller as well, or leave it to agentd rollout controller")
	}
	return agent.Rollout{Fleet: r.fleet, Off: r.off, Controller: r.controller, Control: rollout.ControllerConfig{Webhooks: hooks}}, nil
}
