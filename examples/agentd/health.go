package main

import (
	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/health"
)

func newHealthCommand() *cobra.Command {
	return newGroup("health", "Give others what they need to watch agents", "  agentd health rules >/etc/prometheus/perennial.rules.yml",
		newHealthRulesCommand(),
	)
}

func newHealthRulesCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "rules",
		Short: "Print alerting rules for Prometheus",
		Long: `rules prints a rule file for Prometheus 2.42 or later, in YAML: the alerts that
agents raise themselves, by the same thresholds and times, and alerts about
agents that cannot, because they are down or gone. Agents must be scraped as
job ` + health.PrometheusJob + `, at least every 30 s. promtool check rules reads the file as Prometheus would.`,
		Example: "  agentd health rules >/etc/prometheus/perennial.rules.yml",
		Args:    takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, err := health.PrometheusRules(health.DefaultRules())
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
}
