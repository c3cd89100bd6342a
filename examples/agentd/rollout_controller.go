package main

import (
	"fmt"
	"net/url"
	"os"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/upgrade/rollout"
)

// webhookFlags say who is told of what a controller does.
type webhookFlags struct {
	urls     []string
	authFile string
}

func (w *webhookFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&w.urls, "webhook", nil, "`URL` that is told of each record of the history but admissions, as JSON by POST; may be repeated")
	cmd.Flags().StringVar(&w.authFile, "webhook-auth-file", "", "`file` with the Authorization header to send it, such as Bearer TOKEN, mode 0600")
}

func (w *webhookFlags) config() ([]rollout.Webhook, error) {
	if len(w.urls) == 0 {
		if w.authFile != "" {
			return nil, usagef("--webhook-auth-file is for --webhook: give its URL")
		}
		return nil, nil
	}
	var hooks []rollout.Webhook
	for _, text := range w.urls {
		u, err := url.Parse(text)
		switch {
		case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
			return nil, usagef("--webhook: want a URL such as https://chat.example.com/hook, found another text") // it may hold a secret
		case w.authFile != "" && u.Scheme != "https":
			return nil, usagef("--webhook-auth-file is sent over https only: over http anyone on the way could read it")
		}
		hooks = append(hooks, rollout.Webhook{URL: text, AuthorizationFile: w.authFile})
	}
	return hooks, nil
}

// controllerFlags are what agentd rollout controller was called with.
type controllerFlags struct {
	rolloutFlags
	hooks webhookFlags
	logs  logFlags
	name  string

	metrics metricsFlag
}

func newRolloutControllerCommand() *cobra.Command {
	var c controllerFlags
	cmd := &cobra.Command{
		Use:   "controller",
		Short: "Move the rollouts of a fleet on, without being an agent",
		Long: `controller stands for election as the one that moves the rollouts of the fleet on,
beside agents that do so (agentd run --rollout-controller), and does it while it is
elected: it admits agents, judges stages, halts and reverts. Any number may run; one
works, the others wait to replace it, and the next goes on exactly where the one
before stopped. Nothing moves while none runs, and nothing gets lost.

While it is elected it also compares the fleet with its pins (agentd drift), for
--metrics.

It runs until it is interrupted, and then lets another one take over.`,
		Example: "  agentd rollout controller --etcd http://127.0.0.1:2379 --name controller-1 --webhook https://chat.example.com/hook",
		Args:    takes(),
		RunE:    func(cmd *cobra.Command, _ []string) error { return c.run(cmd) },
	}
	c.etcd.add(cmd)
	c.addFleet(cmd)
	c.logs.add(cmd)
	c.hooks.add(cmd)
	c.metrics.add(cmd)
	cmd.Flags().StringVar(&c.name, "name", "", "`name` of this controller, for people (default the host's)")
	noVariable(cmd, "name")
	return cmd
}

func (c *controllerFlags) run(cmd *cobra.Command) error {
	logger, err := c.logs.logger(cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	if c.name == "" {
		if c.name, err = os.Hostname(); err != nil {
			return fmt.Errorf("the host has no name; give --name: %w", err)
		}
	}
	cfg := rollout.ControllerConfig{Fleet: c.fleet, ID: c.name, Logger: logger}
	if cfg.Webhooks, err = c.hooks.config(); err != nil {
		return err
	}
	directory, err := c.etcd.directory()
	if err != nil {
		return err
	}
	defer func() { _ = directory.Close() }()
	shown := rollout.NewMetrics(c.fleet)
	controller, err := directory.RolloutControl(cfg, shown)
	if err != nil {
		return err
	}
	end, err := c.metrics.serve(cmd.Context(), shown)
	if err != nil {
		return err
	}
	defer end()
	if _, err := fmt.Fprintln(cmd.OutOrStdout(), "controller", c.name, "stands for election in fleet", c.fleet); err != nil {
		return err
	}
	err = controller.Run(cmd.Context())
	if cmd.Context().Err() != nil {
		return nil // it was asked to end
	}
	return err
}
