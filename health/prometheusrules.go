package health

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// PrometheusJob is the job that the rules of PrometheusRules want agents to be
// scraped as: a target that cannot be reached has no other mark of an agent.
const PrometheusJob = "perennial"

// PrometheusRules returns a rule file for Prometheus 2.42 or later, in YAML:
// an alert for each of rules, and those about agents that are down, gone, not
// ready, or not what they were asked to be, about rollouts, and about drift.
//
// An alert is named Perennial and the rule's name in camel case. It fires by
// the same threshold, For, Clear and KeepFiring as in the agent, one interval
// of scraping and one of evaluation later. Those intervals must be no longer
// than the shortest Every of a rule that sums, and 30 s at most.
//
// Rules are checked as New checks them; errors wrap ErrInvalid or
// ErrDuplicate. Rule.Expr is not parsed: promtool check rules does that.
func PrometheusRules(rules []Rule) ([]byte, error) {
	judged := prometheusGroup{Name: "perennial-indicators"}
	standing := prometheusGroup{Name: "perennial-agents", Rules: standingAlerts()}
	fleet := prometheusGroup{Name: "perennial-fleet", Rules: fleetAlerts()}
	names := map[string]string{}
	for _, a := range slices.Concat(standing.Rules, fleet.Rules) {
		names[a.Alert] = "the alert of that name"
	}
	for _, r := range rules {
		r, err := r.normalised(0)
		if err != nil {
			return nil, err
		}
		a := r.prometheusAlert()
		if other, taken := names[a.Alert]; taken {
			return nil, fmt.Errorf("%w: the rule %s and %s are both %s in Prometheus: call it something else", ErrDuplicate, r.Name, other, a.Alert)
		}
		names[a.Alert] = "the rule " + r.Name
		judged.Rules = append(judged.Rules, a)
	}
	var file struct {
		Groups []prometheusGroup `yaml:"groups"`
	}
	file.Groups = []prometheusGroup{standing, fleet}
	if len(judged.Rules) > 0 {
		file.Groups = append(file.Groups, judged)
	}
	text := bytes.NewBufferString("# Generated from the rules by which agents raise alerts themselves. For Prometheus\n# 2.42 or later, which scrapes the agents as job " + PrometheusJob + ".\n")
	e := yaml.NewEncoder(text)
	e.SetIndent(2)
	if err := e.Encode(file); err != nil {
		return nil, fmt.Errorf("health: rules for Prometheus: %w", err)
	}
	return text.Bytes(), nil
}

type prometheusGroup struct {
	Name  string            `yaml:"name"`
	Rules []prometheusAlert `yaml:"rules"`
}

type prometheusAlert struct {
	Alert         string            `yaml:"alert"`
	Expr          string            `yaml:"expr"`
	For           string            `yaml:"for,omitempty"`
	KeepFiringFor string            `yaml:"keep_firing_for,omitempty"`
	Labels        map[string]string `yaml:"labels"`
	Annotations   map[string]string `yaml:"annotations"`
}

// standingAlerts are about agents that cannot tell themselves, or that need
// somebody who decides.
func standingAlerts() []prometheusAlert {
	job := fmt.Sprintf("{job=%q}", PrometheusJob)
	return []prometheusAlert{
		standingAlert("AgentDown", "up"+job+" == 0", time.Minute, Critical,
			"An agent cannot be scraped.",
			"{{ $labels.instance }} has not answered for a minute."),
		standingAlert("AgentGone", "perennial_health_live"+job+" offset 10m unless on (job, instance) up", time.Minute, Warning,
			"An agent is no longer a target.",
			"{{ $labels.instance }} was scraped ten minutes ago and is not among the targets any more. This ends by itself, ten minutes after it went."),
		standingAlert("AgentsAbsent", "absent(up"+job+")", 5*time.Minute, Critical,
			"No agent is scraped.",
			"Prometheus has no target of job "+PrometheusJob+". The alerts about agents that are down go by that name."),
		standingAlert("NotLive", "perennial_health_live"+job+" == 0", 30*time.Second, Critical,
			"An agent says that it is not live.",
			"{{ $labels.instance }} answers, and its liveness checks fail: see /livez?verbose."),
		standingAlert("NotReady", "perennial_health_ready"+job+" == 0", 5*time.Minute, Warning,
			"An agent is not ready for work.",
			"{{ $labels.instance }} has not been ready for five minutes: see /readyz?verbose."),
		standingAlert("IndicatorFailing", "perennial_health_indicator_failing"+job+" == 1", 15*time.Minute, Warning,
			"A figure of an agent cannot be measured any more.",
			"{{ $labels.instance }} has not measured {{ $labels.indicator }} for 15 minutes. The alerts about it stand as they were: see /readyz?verbose."),
		standingAlert("VersionDrift", "perennial_version_drift{job="+strconv.Quote(PrometheusJob)+", class!=\"in_progress\"} == 1", 5*time.Minute, Warning,
			"An agent does not run what was last asked for.",
			"{{ $labels.instance }} was asked for another release, and it came to nothing ({{ $labels.class }}): see agentd status."),
		standingAlert("ConfigRefused", "perennial_config_wanted_revision"+job+" != perennial_config_revision"+job, 5*time.Minute, Warning,
			"An agent does not take the newest configuration.",
			"{{ $labels.instance }} has seen revision {{ $value }} and keeps to an older one: see agentd fleet."),
	}
}

// fleetAlerts are about rollouts, and about agents that run something else than
// what they are meant to, as the fleet's controller sees them. Each controller
// that there was may be asked about the same fleet for a while: one alert is enough.
func fleetAlerts() []prometheusAlert {
	rollout := func(metric, labels string) string {
		return fmt.Sprintf("max by (fleet) (perennial_rollout_%s{job=%q%s})", metric, PrometheusJob, labels)
	}
	drift := func(statuses string) string {
		return fmt.Sprintf("max by (fleet, environment, status) (perennial_fleet_drift{job=%q, status=~%q}) > 0", PrometheusJob, statuses)
	}
	return []prometheusAlert{
		standingAlert("RolloutHalted", rollout("state", `, state="halted"`)+" == 1", 0, Critical,
			"A rollout has failed its judgement and halted.",
			"The rollout of fleet {{ $labels.fleet }} waits for somebody to resume, revert or abort it: see agentd rollout status."),
		standingAlert("RolloutReverted", rollout("state", `, state=~"reverting|reverted"`)+" == 1\nand\ntime() - "+rollout("state_timestamp_seconds", "")+" < 3600", 0, Warning,
			"A rollout has failed its judgement and goes back.",
			"The rollout of fleet {{ $labels.fleet }} is reverted, or is being so: see agentd rollout history. This ends by itself, an hour after it has gone back."),
		standingAlert("RolloutPaused", rollout("state", `, state="paused"`)+" == 1", time.Hour, Warning,
			"A rollout has been paused for an hour.",
			"The rollout of fleet {{ $labels.fleet }} waits for somebody: see agentd rollout status."),
		standingAlert("RolloutStuck", rollout("stuck", "")+" == 1", 5*time.Minute, Critical,
			"The controller cannot move a rollout on.",
			"Something has kept the controller of fleet {{ $labels.fleet }} from its work for five minutes: see its log."),
		standingAlert("FleetDigest", drift("digest"), 5*time.Minute, Critical,
			"Agents run other bytes than those of the release that they are meant to run.",
			"{{ $value }} agents of {{ $labels.environment }} run the right version of another manifest, or an executable that was exchanged: see agentd drift."),
		standingAlert("FleetDrift", drift("version|plugin|config"), 15*time.Minute, Warning,
			"Agents do not run what their environment is pinned to.",
			"{{ $value }} agents of {{ $labels.environment }} differ in their {{ $labels.status }}, and no rollout accounts for it: see agentd drift."),
	}
}

func standingAlert(name, expr string, pending time.Duration, severity Severity, summary, description string) prometheusAlert {
	return prometheusAlert{
		Alert: "Perennial" + name, Expr: expr, For: prometheusDuration(pending),
		Labels:      map[string]string{"severity": string(severity)},
		Annotations: map[string]string{"summary": summary, "description": description},
	}
}

func (r Rule) prometheusAlert() prometheusAlert {
	name := prometheusName(r.Name)
	summary := r.Summary
	if summary == "" {
		summary = r.Indicator + " is above " + prometheusNumber(r.Above) + "."
	}
	return prometheusAlert{
		Alert: name, Expr: r.prometheusExpr(name),
		For: prometheusDuration(r.For), KeepFiringFor: prometheusDuration(r.KeepFiring),
		Labels: map[string]string{"severity": string(r.Severity)},
		Annotations: map[string]string{
			"summary":     untemplated(summary),
			"description": "{{ $labels.instance }}: " + r.Indicator + " is {{ $value | humanize }}, the threshold is " + prometheusNumber(r.Above) + ". The agent calls this alert " + r.Name + ".", //nolint:misspell // a function of Prometheus
		},
	}
}

// prometheusExpr compares the rule's figure with its thresholds. Prometheus
// has no threshold at which an alert ends: the lower one counts for what fires
// already.
func (r Rule) prometheusExpr(alert string) string {
	figure := r.Expr
	switch {
	case figure != "":
		figure = "(" + figure + ")"
	default:
		figure = fmt.Sprintf("perennial_health_indicator{indicator=%q}", r.Indicator)
		if r.Fold == Sum {
			// The sum of a period is there until the next one ends. Whoever
			// looks less often than that must not miss it.
			figure = "max_over_time(" + figure + "[" + prometheusDuration(max(2*r.Every, time.Minute)) + "])"
		}
	}
	above := figure + " > " + prometheusNumber(r.Above)
	if r.Clear >= r.Above {
		return above
	}
	return fmt.Sprintf("%s\nor\n%s > %s and ignoring (alertname, alertstate, severity) ALERTS{alertname=%q, alertstate=\"firing\"}",
		above, figure, prometheusNumber(r.Clear), alert)
}

// prometheusName makes plugin_exceptions PerennialPluginExceptions.
func prometheusName(rule string) string {
	var b strings.Builder
	b.WriteString("Perennial")
	for part := range strings.FieldsFuncSeq(rule, func(c rune) bool { return !unicode.IsLetter(c) && !unicode.IsDigit(c) }) {
		b.WriteString(strings.ToUpper(part[:1]) + part[1:])
	}
	return b.String()
}

func prometheusNumber(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }

// prometheusDuration is "" for 0. Prometheus knows no fractions of a unit, and
// no unit below a millisecond.
func prometheusDuration(d time.Duration) string {
	ms := d / time.Millisecond
	if d%time.Millisecond > 0 {
		ms++
	}
	if ms == 0 {
		return ""
	}
	var b strings.Builder
	for _, u := range []struct {
		name string
		ms   time.Duration
	}{{"h", 3_600_000}, {"m", 60_000}, {"s", 1000}, {"ms", 1}} {
		if n := ms / u.ms; n > 0 {
			fmt.Fprintf(&b, "%d%s", n, u.name)
			ms %= u.ms
		}
	}
	return b.String()
}

// untemplated keeps Prometheus from running text as a template.
func untemplated(text string) string {
	return strings.ReplaceAll(text, "{{", `{{ "{{" }}`)
}
