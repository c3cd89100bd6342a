package rollout

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/perennial-go/perennial/upgrade/release"
)

// DriftStatus is how what an agent runs compares with what is pinned.
type DriftStatus string

// The statuses, the worst first.
const (
	// DriftDigest: the right version of other bytes: another manifest, or an
	// executable that is not the manifest's.
	DriftDigest DriftStatus = "digest"
	// DriftVersion: another version.
	DriftVersion DriftStatus = "version"
	// DriftPlugin: a pinned plugin is missing or other bytes.
	DriftPlugin DriftStatus = "plugin"
	// DriftConfig: not the configuration that is published or pinned.
	DriftConfig DriftStatus = "config"
	// DriftUnknown: it cannot be told.
	DriftUnknown DriftStatus = "unknown"
	// DriftUnpinned: the environment has no pin.
	DriftUnpinned DriftStatus = "unpinned"
	// DriftHeld: another version, and its operator keeps the agent there.
	DriftHeld DriftStatus = "held"
	// DriftRolling: a rollout that is under way explains it.
	DriftRolling DriftStatus = "rolling"
	// DriftNone: what is pinned runs.
	DriftNone DriftStatus = "ok"
)

// DriftStatuses are all of them, the worst first; a new slice each time.
func DriftStatuses() []DriftStatus {
	return []DriftStatus{
		DriftDigest, DriftVersion, DriftPlugin, DriftConfig, DriftUnknown, DriftUnpinned, DriftHeld, DriftRolling, DriftNone,
	}
}

// Drifts reports whether s is a difference that nothing explains.
func (s DriftStatus) Drifts() bool {
	return slices.Contains([]DriftStatus{DriftDigest, DriftVersion, DriftPlugin, DriftConfig}, s)
}

// Undecided reports whether s is neither a difference nor none.
func (s DriftStatus) Undecided() bool { return s == DriftUnknown || s == DriftUnpinned }

// worse orders statuses: negative if a is worse than b.
func worse(a, b DriftStatus) int {
	all := DriftStatuses()
	return slices.Index(all, a) - slices.Index(all, b)
}

// DriftInput is what is compared. Nothing in it is changed or kept.
type DriftInput struct {
	Members []*Member
	Pins    []Pin
	// BadPins are the environments whose pin cannot be used, with why: their
	// agents are DriftUnknown.
	BadPins map[string]string
	// Plan is that of the fleet; nil = none.
	Plan *Plan
	// Documents are those of configuration that are published, by scope; nil =
	// configuration is not compared.
	Documents map[string]Document
	// Label names an agent's environment; default EnvironmentLabel.
	Label string
}

// Document is a document of configuration as it is published.
type Document struct {
	Revision int64
	// Digest is "sha256:<hex>" of its bytes.
	Digest string
}

// Drift is how a fleet compares with its pins.
type Drift struct {
	// Environments are by name: those with agents or a pin.
	Environments []EnvironmentDrift `json:"environments"`
	// Agents are by environment and id.
	Agents []AgentDrift `json:"agents"`
}

// EnvironmentDrift is the sum of an environment's agents.
type EnvironmentDrift struct {
	Environment string `json:"environment"`
	// Expected is the pinned release as version@digest; "" = none.
	Expected string `json:"expected,omitempty"`
	// Actual counts agents by the release that they run, written likewise.
	Actual map[string]int `json:"actual"`
	// Status is the worst of the agents', or DriftUnknown without any.
	Status DriftStatus `json:"status"`
	// Agents counts them by their status.
	Agents map[DriftStatus]int `json:"agents"`
}

// AgentDrift is what was found of one agent.
type AgentDrift struct {
	ID          string `json:"id"`
	Environment string `json:"environment"`
	// Expected and Actual are releases as version@digest. One that was installed
	// by hand has no digest.
	Expected string `json:"expected,omitempty"`
	Actual   string `json:"actual,omitempty"`
	// Status is the worst of Findings, or DriftNone.
	Status   DriftStatus `json:"status"`
	Findings []Finding   `json:"findings,omitempty"`
}

// Finding is one difference, or why something cannot be told.
type Finding struct {
	Status DriftStatus `json:"status"`
	// What differs: "release", "binary", "config", "config/<scope>" or
	// "plugin/<name>".
	What     string `json:"what"`
	Expected string `json:"expected,omitempty"`
	Actual   string `json:"actual,omitempty"`
	// Why is a sentence, where there is more to say.
	Why string `json:"why,omitempty"`
}

// Compare tells how the members compare with the pins of their environments.
// It fails only if the selectors of the plan cannot be read.
func Compare(in DriftInput) (Drift, error) {
	c := comparison{in: in, pins: map[string]*Pin{}}
	if c.in.Label == "" {
		c.in.Label = EnvironmentLabel
	}
	for i := range in.Pins {
		c.pins[in.Pins[i].Environment] = &in.Pins[i]
	}
	if in.Plan != nil {
		var err error
		if c.admission, err = NewAdmission(*in.Plan); err != nil {
			return Drift{}, err
		}
	}
	d := Drift{Environments: []EnvironmentDrift{}, Agents: make([]AgentDrift, 0, len(in.Members))}
	for _, m := range in.Members {
		d.Agents = append(d.Agents, c.agent(m))
	}
	slices.SortFunc(d.Agents, func(a, b AgentDrift) int {
		if n := strings.Compare(a.Environment, b.Environment); n != 0 {
			return n
		}
		return strings.Compare(a.ID, b.ID)
	})
	d.sum(c.pins, in.BadPins)
	return d, nil
}

// sum fills in the environments.
func (d *Drift) sum(pins map[string]*Pin, bad map[string]string) {
	all := map[string]*EnvironmentDrift{}
	of := func(name string) *EnvironmentDrift {
		if all[name] == nil {
			all[name] = &EnvironmentDrift{Environment: name, Status: DriftNone, Actual: map[string]int{}, Agents: map[DriftStatus]int{}}
		}
		return all[name]
	}
	for name, p := range pins {
		of(name).Expected = p.Release.String()
	}
	for name := range bad {
		of(name)
	}
	for i := range d.Agents {
		a := &d.Agents[i]
		e := of(a.Environment)
		e.Agents[a.Status]++
		e.Actual[a.Actual]++
		if worse(a.Status, e.Status) < 0 {
			e.Status = a.Status
		}
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		e := all[name]
		if len(e.Agents) == 0 { // all that it had may be gone
			e.Status = DriftUnknown
		}
		d.Environments = append(d.Environments, *e)
	}
}

// Worst is the worst status of an environment; DriftUnknown where there is none.
func (d *Drift) Worst() DriftStatus {
	if len(d.Environments) == 0 {
		return DriftUnknown
	}
	worst := DriftNone
	for _, e := range d.Environments {
		if worse(e.Status, worst) < 0 {
			worst = e.Status
		}
	}
	return worst
}

// comparison is one call of Compare.
type comparison struct {
	in        DriftInput
	pins      map[string]*Pin
	admission *Admission // nil without a plan
}

func (c *comparison) agent(m *Member) AgentDrift {
	a := AgentDrift{ID: m.ID, Environment: m.Labels[c.in.Label], Actual: runs(m)}
	if a.Environment == "" {
		a.Environment = DefaultEnvironment
	}
	pin := c.pins[a.Environment]
	switch why, bad := c.in.BadPins[a.Environment]; {
	case m.Version == "":
		a.add(Finding{Status: DriftUnknown, What: "release", Why: "the agent's registration cannot be read"})
	case bad:
		a.add(Finding{Status: DriftUnknown, What: "release", Why: why})
	case pin == nil:
		a.add(Finding{Status: DriftUnpinned, What: "release", Actual: a.Actual, Why: "the environment has no pin"})
	default:
		a.Expected = pin.Release.String()
		c.release(&a, m, pin)
		c.plugins(&a, m, pin)
	}
	if m.Version != "" {
		installed(&a, m)
		c.config(&a, m, pin)
	}
	a.Status = DriftNone
	for _, f := range a.Findings {
		if worse(f.Status, a.Status) < 0 {
			a.Status = f.Status
		}
	}
	return a
}

func (a *AgentDrift) add(f Finding) { a.Findings = append(a.Findings, f) }

// runs is what m runs, as version@digest.
func runs(m *Member) string {
	if m.Manifest == "" {
		return m.Version
	}
	return m.Version + "@" + m.Manifest
}

// release compares what is meant to run with what says that it does.
func (c *comparison) release(a *AgentDrift, m *Member, pin *Pin) {
	if pin.Release.IsZero() {
		return
	}
	f := Finding{What: "release", Expected: a.Expected, Actual: a.Actual}
	binary := pin.Binaries[m.Platform]
	switch {
	case m.Version != pin.Release.Version:
		f.Status = DriftVersion
		c.explain(&f, m, pin)
		if m.Held != "" && f.Status == DriftVersion {
			f.Status, f.Why = DriftHeld, "held: "+m.Held
		}
	case m.Manifest != "" && m.Manifest != pin.Release.Digest:
		f.Status, f.Why = DriftDigest, "the same version of another manifest"
		c.explain(&f, m, pin)
	case binary != "" && m.Binary == "":
		f = Finding{Status: DriftUnknown, What: "binary", Expected: binary, Why: "the agent does not tell which executable runs"}
	case binary != "" && m.Binary != binary:
		f = Finding{Status: DriftDigest, What: "binary", Expected: binary, Actual: m.Binary, Why: "the executable that runs is not the one that the manifest names"}
	case m.Manifest == "" && binary == "":
		f.Status, f.Why = DriftUnknown, "it was installed by hand, so that there is no manifest to compare, and the pin does not tell the executable of "+m.Platform
	default:
		return
	}
	a.add(f)
}

// installed compares the bytes that run with those that the agent verified when
// it installed them. Nothing explains a difference.
func installed(a *AgentDrift, m *Member) {
	if m.Binary == "" || m.Installed == "" || m.Binary == m.Installed {
		return
	}
	a.add(Finding{Status: DriftDigest, What: "binary", Expected: m.Installed, Actual: m.Binary, Why: "the executable that runs is not the one that was installed"})
}

// explain turns f into DriftRolling where the plan accounts for it, and else
// says what the agent has made of the plan.
func (c *comparison) explain(f *Finding, m *Member, pin *Pin) {
	p := c.in.Plan
	if p == nil || p.Fleet != m.Fleet || p.Target.Release.IsZero() || !c.admission.Selects(m) {
		return
	}
	var report Report
	if m.Report != nil && m.Report.Request == p.Request() {
		report = *m.Report
	}
	failed := report.State == ReportFailed || report.State == ReportRefused
	accounts, rolling := false, false
	switch end := p.destination(); {
	case p.State.Over():
		// One that is still about it gets there; others stay where they are.
		rolling = p.State != Aborted && report.State != "" && !report.State.Ended() && (end.IsZero() || end == pin.Release)
	case p.is(m):
		accounts = true
	case pin.Release == p.Target.Release:
		accounts = p.State != Reverting // it is on its way away from there
	}
	// A halted one brings nobody on: what it has left behind is not to hide.
	switch rolling = rolling || accounts && !failed && p.State != Halted; {
	case rolling:
		f.Status, f.Why = DriftRolling, p.standing()
	case failed:
		f.Why = strings.TrimSuffix(fmt.Sprintf("rollout %s: %s: %s", p.ID, report.State, report.Reason), ": ")
	case accounts:
		f.Why = p.standing()
	}
}

// standing is how the rollout stands, in one sentence.
func (p *Plan) standing() string {
	return strings.TrimSuffix(fmt.Sprintf("rollout %s is %s: %s", p.ID, p.State, p.Why), ": ")
}

// is reports whether m runs the target.
func (p *Plan) is(m *Member) bool {
	return m.Version == p.Target.Release.Version && m.Manifest == p.Target.Release.Digest
}

// destination is what a rollout that is over leaves agents with; zero = what
// each ran before.
func (p *Plan) destination() release.Pin {
	if p.State == Reverted {
		return p.Previous.Release
	}
	return p.Target.Release
}

func (c *comparison) plugins(a *AgentDrift, m *Member, pin *Pin) {
	for _, name := range slices.Sorted(maps.Keys(pin.Plugins)) {
		f := Finding{Status: DriftPlugin, What: "plugin/" + name, Expected: pin.Plugins[name], Actual: m.Plugins[name]}
		switch f.Actual {
		case f.Expected:
			continue
		case "":
			f.Why = "it is not there"
		}
		a.add(f)
	}
}

// config compares what is published with what is pinned, and what the agent
// runs with what is published.
func (c *comparison) config(a *AgentDrift, m *Member, pin *Pin) {
	if c.in.Documents == nil || m.ConfigDigest == "" { // an agent without has no digest
		return
	}
	expected := int64(0)
	for _, scope := range scopes(m) {
		d := c.in.Documents[scope]
		expected = max(expected, d.Revision)
		if pin == nil {
			continue
		}
		if want := pin.Config[scope]; want != "" && want != d.Digest {
			a.add(c.rolls(m, Finding{Status: DriftConfig, What: "config/" + scope, Expected: want, Actual: d.Digest, Why: "what is published is not what is pinned"}))
		}
	}
	if m.ConfigRevision != expected {
		a.add(c.rolls(m, Finding{
			Status: DriftConfig, What: "config", Expected: fmt.Sprint("revision ", expected), Actual: fmt.Sprint("revision ", m.ConfigRevision),
			Why: "the agent does not run what is published",
		}))
	}
}

// scopes are those whose documents are for m.
func scopes(m *Member) []string {
	all := []string{"global"}
	for _, g := range m.Groups {
		all = append(all, "group/"+g)
	}
	return append(all, "agent/"+m.ID)
}

// rolls is f, or DriftRolling where a rollout of a document accounts for it.
func (c *comparison) rolls(m *Member, f Finding) Finding {
	p := c.in.Plan
	if p == nil || p.Fleet != m.Fleet || p.Target.Config == nil || p.State.Over() || !c.admission.Selects(m) || !slices.Contains(scopes(m), p.Target.Config.Scope) {
		return f
	}
	if f.Why = p.standing(); p.State != Halted {
		f.Status = DriftRolling
	}
	return f
}
