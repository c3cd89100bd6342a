package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/examples/agentd/internal/planfile"
	"github.com/perennial-go/perennial/upgrade/rollout"
)

// rolloutShape are the flags that say how a rollout goes.
type rolloutShape struct {
	plan                        string
	canary, rolling, blueGreen  bool
	stages, windows, checks     []string
	batch, unavailable, surge   string
	pairBy, selector, onFailure string
	soak, deadline, retain      time.Duration
	gate, pastSilent            bool
	successAbove                float64
	minSample                   int
	alerts                      string
	environments                []string
}

func (s *rolloutShape) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.plan, "plan", "", "YAML `file` with the plan, in place of the flags about stages")
	f.BoolVar(&s.canary, "canary", false, "5 % of the agents with env=test, 30 % of those with env=production, then all; the default")
	f.BoolVar(&s.rolling, "rolling", false, "all agents, --batch by --batch")
	f.BoolVar(&s.blueGreen, "blue-green", false, "have it lie ready everywhere, then switch all at once; --soak, by default 10m, is for how long they can switch back warm")
	f.StringArrayVar(&s.stages, "stage", nil, "a `stage` of your own, such as name=test,selector=env=test,percent=5,batch=10; put a field with a comma in double quotes; may be repeated, the first first")
	f.StringVar(&s.batch, "batch", "", "how `many` agents one step admits, such as 5 or 10%; default as many as may be")
	f.StringVar(&s.unavailable, "max-unavailable", "", "how `many` agents may be under way at once, such as 5 or 10%; default 10% with --rolling, 25% in the later stages of --canary, no limit in --stage")
	f.StringVar(&s.surge, "max-surge", "", "how `many` agents whose partner of a pair works may be under way beside those")
	f.StringVar(&s.pairBy, "pair-by", "", "`label` that the two agents of a pair share: they are never under way together")
	f.StringArrayVar(&s.windows, "window", nil, "`when` agents may be admitted, such as \"Mon-Fri 22:00-04:00 Europe/Berlin\"; may be repeated; default always")
	f.DurationVar(&s.soak, "soak", 0, "how long all agents of a stage must have run well before it is judged")
	f.BoolVar(&s.gate, "gate", false, "have each stage but the first, and the switch, wait for agentd rollout promote")
	f.StringArrayVar(&s.checks, "check", nil, "a `question` whose answer decides as well: prometheus=URL,QUERY or http=URL; may be repeated")
	f.Float64Var(&s.successAbove, "success-above", 99.5, "the `percentage` of agents that succeed must be greater")
	f.IntVar(&s.minSample, "min-sample", 0, "how `many` agents must have ended for a judgement; default 1")
	f.StringVar(&s.alerts, "alerts", "", "least `severity` of an alert after its change that makes an agent count as failed: critical (the default), warning or none")
	f.StringVarP(&s.selector, "selector", "l", "", "`which` agents it is about: labels, .id, .group, .host and .platform; default all of the fleet")
	f.StringVar(&s.onFailure, "on-failure", "", "what a failed judgement leads to: `revert` (the default) or halt")
	f.BoolVar(&s.pastSilent, "past-silent", false, "have a revert go on beside agents that are silent past their deadline and take all places: one more than may be is then under way; default it is halted")
	f.DurationVar(&s.deadline, "deadline", 0, "how long one agent may take, from when it is admitted, before it counts as failed; default 15m")
	f.DurationVar(&s.retain, "retain", 0, "how long agents keep the release before; default 72h")
	f.StringSliceVar(&s.environments, "environment", nil, "`names` of the environments that are meant to run it once it has completed (agentd pin)")
	for _, flag := range []string{"plan", "deadline"} {
		noVariable(cmd, flag)
	}
}

// stageFlags say something of stages, which a --plan does itself.
func stageFlags() []string {
	return []string{"canary", "rolling", "blue-green", "stage", "batch", "max-unavailable", "max-surge", "pair-by", "window", "soak", "gate", "check", "success-above", "min-sample", "alerts"}
}

// build makes a plan of the flags, but for what is rolled out. file is the plan
// file, if there is one.
func (s *rolloutShape) build(cmd *cobra.Command) (p rollout.Plan, file *planfile.File, err error) {
	if s.plan != "" {
		if file, err = s.fromFile(cmd, &p); err != nil {
			return p, nil, err
		}
	} else if err := s.fromFlags(cmd, &p); err != nil {
		return p, nil, err
	}
	p.Selector = cmp.Or(s.selector, p.Selector)
	p.OnFailure = cmp.Or(rollout.OnFailure(s.onFailure), p.OnFailure)
	p.PastSilent = p.PastSilent || s.pastSilent
	if cmd.Flags().Changed("environment") {
		p.Environments = s.environments
	}
	for _, d := range []struct {
		flag  string
		value time.Duration
		to    *rollout.Seconds
	}{{"deadline", s.deadline, &p.Deadline}, {"retain", s.retain, &p.RetainFor}} {
		if !cmd.Flags().Changed(d.flag) {
			continue
		}
		if *d.to, err = planfile.Positive("--"+d.flag, d.value); err != nil {
			return p, nil, usageError{err}
		}
	}
	return p, file, nil
}

func (s *rolloutShape) fromFile(cmd *cobra.Command, p *rollout.Plan) (*planfile.File, error) {
	for _, flag := range stageFlags() {
		if cmd.Flags().Changed(flag) {
			return nil, usagef("--%s and --plan are two ways to say what the stages are: give one", flag)
		}
	}
	data, err := readPlan(s.plan)
	if err != nil {
		return nil, err
	}
	file, err := planfile.Parse(data)
	if err == nil {
		err = file.Apply(p)
	}
	if err != nil {
		return nil, usagef("--plan %s: %w", s.plan, err)
	}
	return &file, nil
}

// readPlan reads no further than a plan may be long.
func readPlan(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("the plan: %w", err)
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, planfile.MaxBytes+1)) // Parse refuses the one too many
	if err != nil {
		return nil, fmt.Errorf("the plan in %s: %w", name, err)
	}
	return data, nil
}

func (s *rolloutShape) fromFlags(cmd *cobra.Command, p *rollout.Plan) error {
	chosen := 0
	for _, c := range []struct {
		on       bool
		strategy rollout.Strategy
	}{{s.canary, rollout.Canary}, {s.rolling, rollout.Rolling}, {s.blueGreen, rollout.BlueGreen}} {
		if c.on {
			p.Strategy = c.strategy
			chosen++
		}
	}
	if chosen > 1 {
		return usagef("--canary, --rolling and --blue-green are three strategies: give one")
	}
	p.Strategy = cmp.Or(p.Strategy, rollout.Canary)
	for _, text := range s.stages {
		stage, err := planfile.ParseStage(text)
		if err != nil {
			return usagef("--stage: %w", err)
		}
		p.Stages = append(p.Stages, stage)
	}
	s.complete(p)
	for i := range p.Stages {
		if err := s.apply(cmd, p, i); err != nil {
			return err
		}
	}
	return nil
}

// complete adds the stages that the strategy has where the flags say none, and
// the switch.
func (s *rolloutShape) complete(p *rollout.Plan) {
	own := len(p.Stages) > 0
	switch {
	case p.Strategy == rollout.BlueGreen:
		flow := rollout.DefaultBlueGreen(defaultWarm, false)
		if !own {
			p.Stages = flow[:1]
		}
		p.Stages = append(p.Stages, flow[len(flow)-1])
	case own:
	case p.Strategy == rollout.Rolling:
		p.Stages = rollout.DefaultRolling()
	default:
		p.Stages = rollout.DefaultCanary()
	}
}

// defaultWarm is the --soak of --blue-green.
const defaultWarm = rollout.Seconds(10 * 60)

// apply sets what the flags say of every stage, unless the stage says it. In
// which part of the fleet something lies ready is nothing to judge, and those
// that switch do so together.
func (s *rolloutShape) apply(cmd *cobra.Command, p *rollout.Plan, at int) error {
	stage := &p.Stages[at]
	last := at == len(p.Stages)-1
	stages, switches := p.Strategy == rollout.BlueGreen && !last, p.Strategy == rollout.BlueGreen && last
	stage.Manual = stage.Manual || s.gate && at > 0 && !stages
	if err := s.applyWindows(stage); err != nil {
		return err
	}
	if !switches {
		if err := s.applyAmounts(cmd, stage); err != nil {
			return err
		}
	}
	if stages {
		return nil
	}
	return s.applyJudgement(cmd, stage)
}

func (s *rolloutShape) applyAmounts(cmd *cobra.Command, stage *rollout.Stage) error {
	for _, a := range []struct {
		flag, text string
		to         *rollout.Amount
	}{{"batch", s.batch, &stage.Batch}, {"max-unavailable", s.unavailable, &stage.MaxUnavailable}, {"max-surge", s.surge, &stage.MaxSurge}} {
		amount, err := planfile.ParseAmount(a.text)
		if err != nil {
			return usagef("--%s: %w", a.flag, err)
		}
		// A stage of --stage comes before the flag, a default does not.
		if cmd.Flags().Changed(a.flag) && (a.to.IsZero() || len(s.stages) == 0) {
			*a.to = amount
		}
	}
	stage.PairBy = cmp.Or(stage.PairBy, s.pairBy)
	return nil
}

func (s *rolloutShape) applyWindows(stage *rollout.Stage) error {
	if len(stage.Windows) > 0 {
		return nil
	}
	for _, text := range s.windows {
		w, err := planfile.ParseWindow(text)
		if err != nil {
			return usagef("--window: %w", err)
		}
		stage.Windows = append(stage.Windows, w)
	}
	return nil
}

func (s *rolloutShape) applyJudgement(cmd *cobra.Command, stage *rollout.Stage) error {
	soak, err := planfile.Seconds("--soak", s.soak)
	if err != nil {
		return usageError{err}
	}
	if cmd.Flags().Changed("soak") && (stage.Soak == 0 || len(s.stages) == 0 || s.blueGreen) {
		stage.Soak = soak
	}
	for _, text := range s.checks {
		check, err := planfile.ParseCheck(text)
		if err != nil {
			return usagef("--check: %w", err)
		}
		planfile.AddCheck(&stage.Judge, check)
	}
	if stage.Judge.SuccessAbove == nil && cmd.Flags().Changed("success-above") {
		stage.Judge.SuccessAbove = &s.successAbove
	}
	stage.Judge.MinSample = cmp.Or(stage.Judge.MinSample, s.minSample)
	stage.Judge.AlertSeverity = cmp.Or(stage.Judge.AlertSeverity, s.alerts)
	return nil
}
