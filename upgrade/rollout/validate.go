package rollout

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/internal/ident"
	"github.com/perennial-go/perennial/internal/strictjson"
)

// Limits of a plan: it comes from etcd, is fanned out to each agent with each
// step, and each agent keeps it in memory.
const (
	MaxPlanBytes    = 64 << 10
	planGrowth      = 6 << 10 // by what moves, at most
	maxPlanDepth    = 8
	maxStages       = 32
	maxWindows      = 32
	maxChecks       = 16
	maxEnvironments = 64
	maxText         = 1 << 10
	maxQuery        = 8 << 10
	maxAttempts     = 20
	maxAgents       = 1 << 20
	maxSteps        = 8
	maxDuration     = Seconds(366 * 24 * 3600)
	minDeadline     = Seconds(0.1)
)

// Defaults of a plan.
const (
	DefaultDeadline     = Seconds(15 * 60)
	DefaultRetain       = Seconds(72 * 3600)
	DefaultSuccessAbove = 99.5
	DefaultCheckTimeout = Seconds(10)
	DefaultAttempts     = 3
)

// WithDefaults returns p with the defaults of what is zero: a strategy, which is
// Canary, its stages, names, what follows a failure, deadlines, and a plan that
// has not begun is Running with its first instruction. It changes nothing of p.
func (p Plan) WithDefaults() Plan {
	p.Schema = max(p.Schema, Schema)
	setDefault(&p.Fleet, DefaultFleet)
	setDefault(&p.Strategy, Canary)
	setDefault(&p.OnFailure, Revert)
	setDefault(&p.Deadline, DefaultDeadline)
	setDefault(&p.RetainFor, DefaultRetain)
	p.Stages = slices.Clone(p.Stages)
	if len(p.Stages) == 0 {
		p.Stages = p.Strategy.stages()
	}
	for i := range p.Stages {
		p.Stages[i] = p.Stages[i].withDefaults(i)
	}
	setDefault(&p.State, Running)
	setDefault(&p.Instruction.Number, 1)
	if p.Instruction.Action == "" {
		p.Instruction.Action = ActSwitch
		if p.Strategy == BlueGreen {
			p.Instruction.Action = ActStage
		}
	}
	return p
}

func (s Stage) withDefaults(index int) Stage {
	setDefault(&s.Name, fmt.Sprintf("stage %d", index+1))
	setDefault(&s.BasisPoints, allBasisPoints)
	if s.Judge.SuccessAbove == nil {
		above := float64(DefaultSuccessAbove)
		s.Judge.SuccessAbove = &above
	}
	setDefault(&s.Judge.MinSample, 1)
	setDefault(&s.Judge.AlertSeverity, "critical")
	s.Judge.Checks = slices.Clone(s.Judge.Checks)
	for i := range s.Judge.Checks {
		c := &s.Judge.Checks[i]
		setDefault(&c.Name, fmt.Sprintf("check %d", i+1))
		setDefault(&c.Timeout, DefaultCheckTimeout)
		setDefault(&c.Attempts, DefaultAttempts)
	}
	return s
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// ParsePlan reads the value of plan/<fleet>, with defaults, and checks it.
func ParsePlan(data []byte) (Plan, error) {
	if len(data) > MaxPlanBytes {
		return Plan{}, fmt.Errorf("plan of %d bytes, at most %d are allowed", len(data), MaxPlanBytes)
	}
	if err := strictjson.Check(data, maxPlanDepth); err != nil {
		return Plan{}, fmt.Errorf("plan: %w", err)
	}
	var p Plan
	if err := json.Unmarshal(data, &p); err != nil {
		return Plan{}, fmt.Errorf("plan: %w", err)
	}
	if p.Schema != Schema {
		return Plan{}, fmt.Errorf("plan: schema %d, this program reads %d: upgrade it", p.Schema, Schema)
	}
	p = p.WithDefaults()
	return p, p.Validate()
}

// Validate reports all that keeps p from being followed. It is to have its
// defaults.
func (p *Plan) Validate() error {
	errs := []error{p.validateNames(), p.Target.validate(), p.validateMoving()}
	if p.Previous != (Target{}) {
		if err := p.Previous.validate(); err != nil {
			errs = append(errs, fmt.Errorf("previous: %w", err))
		}
	}
	if !slices.Contains([]OnFailure{Revert, Halt}, p.OnFailure) {
		errs = append(errs, fmt.Errorf("on_failure %.40q: want revert or halt", p.OnFailure))
	}
	if err := p.Deadline.validate(minDeadline); err != nil {
		errs = append(errs, fmt.Errorf("deadline_seconds: %w", err))
	}
	if err := p.RetainFor.validate(0); err != nil {
		errs = append(errs, fmt.Errorf("retain_seconds: %w", err))
	}
	if _, err := NewAdmission(*p); err != nil {
		errs = append(errs, err)
	}
	errs = append(errs, p.validateStages(), p.validateStrategy())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("plan %.130q: %w", p.ID, err)
	}
	return nil
}

func (p *Plan) validateNames() error {
	errs := []error{etcdkv.ValidID(p.Fleet), etcdkv.ValidID(p.ID), text("by", p.By), text("reason", p.Reason), text("why", p.Why)}
	if len(p.Environments) > maxEnvironments {
		errs = append(errs, fmt.Errorf("%d environments, at most %d are allowed", len(p.Environments), maxEnvironments))
	}
	for _, e := range p.Environments {
		if err := etcdkv.ValidID(e); err != nil {
			errs = append(errs, fmt.Errorf("environment: %w", err))
		}
	}
	if len(p.Binaries) > 0 && p.Target.Config != nil {
		errs = append(errs, errors.New("binaries: a configuration document has none"))
	}
	errs = append(errs, documentDigest(p.Over), digests("binaries", "", p.Binaries, validPlatform))
	return errors.Join(errs...)
}

// text bounds what is for people, and keeps from it what moves a terminal's
// cursor.
func text(name, s string) error {
	if len(s) > maxText || !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return fmt.Errorf("%s %.40q: want at most %d bytes of UTF-8 without control characters", name, s, maxText)
	}
	return nil
}

// validate checks s, which is at least least.
func (s Seconds) validate(least Seconds) error {
	if math.IsNaN(float64(s)) || s < least || s > maxDuration {
		return fmt.Errorf("%v: want %v to %v", float64(s), float64(least), float64(maxDuration))
	}
	return nil
}

func (t Target) validate() error {
	if t.Config == nil {
		if err := t.Release.Validate(); err != nil {
			return fmt.Errorf("release: %w", err)
		}
		return errors.Join(text("program", t.Program), text("asked", t.Asked))
	}
	if !t.Release.IsZero() {
		return errors.New("target: want a release or a configuration document, not both")
	}
	group, isGroup := strings.CutPrefix(t.Config.Scope, "group/")
	if t.Config.Scope != "global" && (!isGroup || etcdkv.ValidID(group) != nil) {
		return fmt.Errorf("configuration's scope %.140q: want global or group/<group>", t.Config.Scope)
	}
	return documentDigest(t.Config.Digest)
}

// documentDigest checks the digest of a configuration document; "" = none.
func documentDigest(s string) error {
	hex, ok := strings.CutPrefix(s, digestPrefix)
	if s != "" && (!ok || !ident.SHA256(hex)) {
		return fmt.Errorf("configuration's digest %.80q: want sha256: and 64 lower-case hexadecimal digits", s)
	}
	return nil
}

// validateStages tells what is wrong with several stages once.
func (p *Plan) validateStages() error {
	var errs []error
	if n := len(p.Stages); n == 0 || n > maxStages {
		errs = append(errs, fmt.Errorf("%d stages: want 1 to %d", n, maxStages))
	}
	named := map[string]bool{}
	told := map[string]bool{}
	for i := range p.Stages {
		s := &p.Stages[i]
		if named[s.Name] {
			errs = append(errs, fmt.Errorf("two stages are called %.60q", s.Name))
		}
		named[s.Name] = true
		if err := s.validate(); err != nil && !told[err.Error()] {
			told[err.Error()] = true
			errs = append(errs, fmt.Errorf("stage %d, %.60q: %w", i+1, s.Name, err))
		}
	}
	return errors.Join(errs...)
}

// validateStrategy checks what only some strategies allow.
func (p *Plan) validateStrategy() error {
	switch p.Strategy {
	case Canary, Rolling:
		return nil
	case BlueGreen:
	default:
		return fmt.Errorf("strategy %.40q: want canary, rolling or blue-green", p.Strategy)
	}
	if p.Target.Config != nil {
		return errors.New("blue-green is of releases: a configuration document is not staged")
	}
	if len(p.Stages) < 2 {
		return fmt.Errorf("blue-green has %d stages: want one or more in which agents stage, and a last one that switches all", len(p.Stages))
	}
	last := p.Stages[len(p.Stages)-1]
	if last.Selector != "" || last.BasisPoints != allBasisPoints || !last.Batch.IsZero() || !last.MaxUnavailable.IsZero() || last.PairBy != "" {
		return fmt.Errorf("blue-green's last stage %q switches all at once: it has no selector, part, batch, limit or pairs", last.Name)
	}
	return nil
}

// validateMoving checks what changes in the course of a rollout.
func (p *Plan) validateMoving() error {
	var errs []error
	if !slices.Contains([]State{Running, Paused, Halted, Reverting, Reverted, Aborted, Completed}, p.State) {
		errs = append(errs, fmt.Errorf("state %.40q is not known here", p.State))
	}
	if !slices.Contains([]Action{ActStage, ActSwitch, ActRevert}, p.Instruction.Action) || p.Instruction.Number < 1 {
		errs = append(errs, fmt.Errorf("instruction %d %.40q is not known here", p.Instruction.Number, p.Instruction.Action))
	}
	if err := p.Instruction.Probation.validate(0); err != nil {
		errs = append(errs, fmt.Errorf("probation_seconds: %w", err))
	}
	if n := len(p.Stages); p.Stage < 0 || p.Stage > n || p.Promoted < 0 || p.Promoted > n+1 || len(p.Cursor.Marks) > n || len(p.Cursor.Steps) > maxSteps {
		errs = append(errs, fmt.Errorf("stage %d, promoted %d, %d marks, %d steps: they do not fit %d stages", p.Stage, p.Promoted, len(p.Cursor.Marks), len(p.Cursor.Steps), n))
	}
	if p.Seq < 0 || p.Cursor.AsOf < 0 || p.Cursor.Late.AsOf < 0 {
		errs = append(errs, errors.New("a sequence or revision is negative"))
	}
	return errors.Join(errs...)
}

func (s *Stage) validate() error {
	errs := []error{text("name", s.Name), text("pair_by", s.PairBy), s.Judge.validate()}
	if s.BasisPoints < 1 || s.BasisPoints > allBasisPoints {
		errs = append(errs, fmt.Errorf("basis_points %d: want 1 to %d, in hundredths of a percent", s.BasisPoints, allBasisPoints))
	}
	for _, a := range []struct {
		name string
		Amount
	}{{"batch", s.Batch}, {"max_unavailable", s.MaxUnavailable}, {"max_surge", s.MaxSurge}} {
		if err := a.validate(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", a.name, err))
		}
	}
	if s.PairBy == "" && !s.MaxSurge.IsZero() {
		errs = append(errs, errors.New("max_surge is of hosts that are paired: pair_by is empty"))
	}
	if err := s.Soak.validate(0); err != nil {
		errs = append(errs, fmt.Errorf("soak_seconds: %w", err))
	}
	if len(s.Windows) > maxWindows {
		errs = append(errs, fmt.Errorf("%d windows, at most %d are allowed", len(s.Windows), maxWindows))
	}
	for _, w := range s.Windows {
		if _, _, _, err := w.parse(); err != nil {
			errs = append(errs, fmt.Errorf("window: %w", err))
		}
	}
	return errors.Join(errs...)
}

func (j *Judge) validate() error {
	var errs []error
	if a := j.SuccessAbove; a != nil && !(*a >= 0 && *a < 100) {
		errs = append(errs, fmt.Errorf("success_above_percent %v: want 0 to below 100, which nothing is above", *a))
	}
	if j.MinSample < 0 || j.MinSample > maxAgents {
		errs = append(errs, fmt.Errorf("min_sample %d: want 1 to %d", j.MinSample, maxAgents))
	}
	if !slices.Contains([]string{"", "warning", "critical", "none"}, j.AlertSeverity) {
		errs = append(errs, fmt.Errorf("alert_severity %.40q: want warning, critical or none", j.AlertSeverity))
	}
	if len(j.Checks) > maxChecks {
		errs = append(errs, fmt.Errorf("%d checks, at most %d are allowed", len(j.Checks), maxChecks))
	}
	names := map[string]bool{}
	for i := range j.Checks {
		c := &j.Checks[i]
		if names[c.Name] {
			errs = append(errs, fmt.Errorf("two checks are called %q", c.Name))
		}
		names[c.Name] = true
		if err := c.validate(); err != nil {
			errs = append(errs, fmt.Errorf("check %.60q: %w", c.Name, err))
		}
	}
	return errors.Join(errs...)
}

func (c *Check) validate() error {
	errs := []error{text("name", c.Name), c.Timeout.validate(0)}
	if !ident.Valid(c.Kind, "._-") {
		errs = append(errs, fmt.Errorf("kind %.40q: want prometheus, http, or the name of a checker", c.Kind))
	}
	if len(c.Query) > maxQuery || len(c.URL) > maxText {
		errs = append(errs, fmt.Errorf("query of %d bytes, URL of %d: at most %d and %d are allowed", len(c.Query), len(c.URL), maxQuery, maxText))
	}
	if c.Kind == "prometheus" || c.Kind == "http" {
		if u, err := url.Parse(c.URL); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			errs = append(errs, fmt.Errorf("url %.60q: want http:// or https:// and a host", c.URL))
		}
	}
	if c.Kind == "prometheus" && c.Query == "" {
		errs = append(errs, errors.New("query is empty"))
	}
	if c.Attempts < 0 || c.Attempts > maxAttempts {
		errs = append(errs, fmt.Errorf("attempts %d: want 1 to %d", c.Attempts, maxAttempts))
	}
	return errors.Join(errs...)
}
