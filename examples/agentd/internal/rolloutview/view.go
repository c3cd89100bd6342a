package rolloutview

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/perennial-go/perennial/upgrade/rollout"
)

// Model is what is shown.
type Model struct {
	Plan    *rollout.Plan
	Figures rollout.Figures
	// Lost are agents that do not count as succeeded, by id.
	Lost   map[string]rollout.Loss
	Freeze *rollout.Freeze
	// Leader is the controller that moves the rollout on, "" = none, which is
	// told only while something is to be moved.
	Leader string
	// Waits is what the controller says that the rollout waits for.
	Waits string
	// Trouble is what keeps the rollout from moving on; "" = nothing.
	Trouble string
	Stages  []Stage
	// Cause is why it went back or was ended, where Plan.Why tells no more of it.
	Cause string
	// Stale is why what is shown may be old; "" = it is not.
	Stale string
	Now   time.Time
}

// waitsForPromote is said of a stage whose gate is shut.
const waitsForPromote = "waits for promote"

// maxLost bounds how many agents that were lost are named.
const maxLost = 8

// Line is the whole in one line: another one when something has happened.
func (m *Model) Line() string {
	p := m.Plan
	state := string(p.State)
	if !p.State.Over() && p.State != rollout.Reverting {
		state += ", " + m.place()
	}
	parts := append([]string{state + ": " + m.figures()}, m.whys()...)
	if w := m.waits(); strings.Contains(w, " waits for ") {
		parts = append(parts, w)
	}
	if m.Leader == "" && !p.State.Over() {
		parts = append(parts, "no controller is elected")
	}
	if f := m.Freeze; f != nil && !p.State.Over() {
		parts = append(parts, Frozen(f))
	}
	return strings.Join(parts, "; ")
}

// Text is the whole, in lines that are at most width wide. They have no escapes
// of their own, but what others wrote is in them.
func (m *Model) Text(width int) []string {
	p := m.Plan
	lines := []string{
		fmt.Sprintf("Rollout %s of fleet %s: %s, %s.", p.ID, p.Fleet, p.Strategy, Course(p)),
	}
	if asked := by(p.By, p.Reason); asked != "" {
		lines = append(lines, fmt.Sprintf("Asked for %s at %s.", asked, moment(p.Created)))
	}
	state := fmt.Sprintf("%s since %s", strings.ToUpper(string(p.State)), moment(p.Since))
	if d := m.Now.Sub(p.Since); !p.Since.IsZero() && d > 0 && !p.State.Over() {
		state += fmt.Sprintf(" (%v)", d.Round(time.Second))
	}
	lines = append(lines, strings.Join(append([]string{state}, m.whys()...), ": "))
	if advice := Advice(p); advice != "" {
		lines = append(lines, sentence("next: "+advice))
	}
	if m.Freeze != nil {
		lines = append(lines, strings.ToUpper(Frozen(m.Freeze)[:1])+Frozen(m.Freeze)[1:])
	}
	if w := m.waits(); w != "" {
		lines = append(lines, sentence(w))
	}
	if !p.State.Over() {
		lines = append(lines, Led(m.Leader))
	}
	if m.Trouble != "" {
		lines = append(lines, "It does not move on: "+m.Trouble)
	}
	if m.Stale != "" {
		lines = append(lines, "What is shown may be old: "+m.Stale)
	}
	lines = append(lines, "")
	lines = append(lines, m.bars(width)...)
	lines = append(lines, "", sentence(m.figures()))
	return append(lines, m.lost()...)
}

// Advice is what a person can do about a rollout that was halted; "" of others.
func Advice(p *rollout.Plan) string {
	switch {
	case p.State != rollout.Halted:
		return ""
	case p.Instruction.Action != rollout.ActRevert:
		return "agentd rollout resume, revert or abort; promote --force takes the stage that has failed as it is"
	case !p.PastSilent && strings.Contains(p.Why, "leave no room"):
		return "agentd rollout revert --past-silent has the others go back beside those that are silent, abort leaves all as they are; it goes on by itself once one of them reports"
	}
	return "agentd rollout revert tries again, abort leaves those as they are who did not go back; it goes on by itself where one does after all"
}

// Led says who moves rollouts on; "" = nobody.
func Led(leader string) string {
	if leader == "" {
		return "No controller is elected: nothing moves until one runs (agentd rollout controller)."
	}
	return "Controller: " + leader + "."
}

// waits is what it waits for, where that is not shown elsewhere.
func (m *Model) waits() string {
	shown := m.Plan.State.Over() || m.Freeze != nil || strings.Contains(m.Waits, " soaks until ") || strings.Contains(m.Waits, waitsForPromote)
	if shown || m.Leader == "" || strings.Contains(m.Plan.Why, m.Waits) {
		return ""
	}
	return m.Waits
}

// whys are the reasons for its state, the first cause last.
func (m *Model) whys() []string {
	var all []string
	for _, why := range []string{m.Plan.Why, m.Cause} {
		if why != "" && (len(all) == 0 || !strings.Contains(all[0], why)) {
			all = append(all, why)
		}
	}
	return all
}

// Course says from where to where a rollout goes.
func Course(p *rollout.Plan) string {
	switch {
	case p.Target.Config != nil && p.Target.Config.Digest == "":
		return "config " + p.Target.Config.Scope + " as it is published"
	case p.Target.Config != nil:
		return "config " + p.Target.Config.Scope + " " + brief(p.Target.Config.Digest)
	case !p.Previous.Release.IsZero():
		return fmt.Sprintf("%s to %s", release(p.Previous), release(p.Target))
	}
	return "to " + release(p.Target)
}

func release(t rollout.Target) string {
	return t.Release.Version + "@" + brief(t.Release.Digest)
}

// brief is as much of a digest as people compare by eye.
func brief(digest string) string {
	hex := strings.TrimPrefix(digest, "sha256:")
	return hex[:min(12, len(hex))]
}

// place says which stage is under way.
func (m *Model) place() string {
	p := m.Plan
	if p.Stage >= len(p.Stages) {
		return "all stages passed"
	}
	text := fmt.Sprintf("stage %d of %d (%s)", p.Stage+1, len(p.Stages), p.Stages[p.Stage].Name)
	if p.State == rollout.Running && p.Stages[p.Stage].Manual && p.Promoted <= p.Stage && !strings.Contains(p.Why, waitsForPromote) {
		text += ", " + waitsForPromote
	}
	return text
}

// figures are those that are not 0.
func (m *Model) figures() string {
	f := m.Figures
	parts := []string{fmt.Sprintf("%d of %d agents admitted", f.Admitted, f.Agents)}
	for _, n := range []struct {
		count int
		what  string
	}{
		{f.Succeeded, "succeeded"}, {f.Failed, "failed"}, {f.Silent, "silent"}, {f.UnderWay, "under way"}, {f.Waiting, "waiting"},
		{f.Held, "held"}, {f.Gone, "gone for other reasons"}, {f.Late, "late"},
	} {
		if n.count > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n.count, n.what))
		}
	}
	if f.Succeeded+f.Failed+f.Silent > 0 {
		parts = append(parts, fmt.Sprintf("success %.4g %%", f.Rate))
	}
	return strings.Join(parts, ", ")
}

// bars shows each stage.
func (m *Model) bars(width int) []string {
	name := 0
	for i := range m.Stages {
		name = max(name, len([]rune(m.Stages[i].Name)))
	}
	name = min(name, 24)
	lines := make([]string, 0, len(m.Stages))
	for i := range m.Stages {
		s := &m.Stages[i]
		n := len(s.Members)
		tail := fmt.Sprintf(" %3d %% of %d, %s", percent(s.Succeeded, n), n, m.progress(i))
		room := min(40, width-name-len(tail)-4)
		line := fmt.Sprintf("  %-*s", name, cut(s.Name, name))
		if room >= 5 {
			line += " " + s.bar(room)
		}
		lines = append(lines, line+tail)
	}
	return lines
}

// progress says in a word how far a stage is.
func (m *Model) progress(stage int) string {
	p, s := m.Plan, &m.Stages[stage]
	var parts []string
	for _, n := range []struct {
		count int
		what  string
	}{{s.UnderWay, "under way"}, {s.Failed, "failed"}, {s.Waiting, "waiting"}, {s.Held, "held"}} {
		if n.count > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n.count, n.what))
		}
	}
	counts := strings.Join(parts, ", ")
	word := ""
	switch {
	case p.State == rollout.Reverting || p.State == rollout.Reverted:
		word = string(p.State)
	case stage < p.Stage:
		word = "passed"
	case stage > p.Stage:
		word = "to come"
	case p.State != rollout.Running:
		word = string(p.State)
	case !p.SoakSince.IsZero():
		left := p.SoakSince.Add(p.Stages[stage].Soak.Duration()).Sub(m.Now)
		word = fmt.Sprintf("soaks for another %v", max(0, left).Round(time.Second))
	case p.Stages[stage].Manual && p.Promoted <= stage:
		word = waitsForPromote
	}
	return cmp.Or(strings.Trim(counts+", "+word, ", "), "begun")
}

// bar is a bar of room characters, brackets included.
func (s *Stage) bar(room int) string {
	room -= 2
	n := max(1, len(s.Members))
	var b strings.Builder
	upTo := 0
	for _, c := range []struct {
		count int
		mark  string
	}{{s.Succeeded, "#"}, {s.Failed, "!"}, {s.UnderWay, ">"}} {
		from := upTo * room / n
		upTo = min(n, upTo+c.count)
		b.WriteString(strings.Repeat(c.mark, upTo*room/n-from))
	}
	return "[" + b.String() + strings.Repeat(".", room-b.Len()) + "]"
}

func percent(n, of int) int {
	if of == 0 {
		return 0
	}
	return n * 100 / of
}

// lost names agents that were lost, the last first.
func (m *Model) lost() []string {
	ids := slices.SortedFunc(maps.Keys(m.Lost), func(a, b string) int {
		return cmp.Or(m.Lost[b].At.Compare(m.Lost[a].At), cmp.Compare(a, b))
	})
	var lines []string
	for _, id := range ids[:min(maxLost, len(ids))] {
		l := m.Lost[id]
		line := fmt.Sprintf("  %s %s", id, l.State)
		if l.Reason != "" {
			line += ": " + l.Reason
		}
		lines = append(lines, line)
	}
	if more := len(ids) - len(lines); more > 0 {
		lines = append(lines, fmt.Sprintf("  and %d more (-o json has all)", more))
	}
	return lines
}

// Frozen says who has frozen the fleet.
func Frozen(f *rollout.Freeze) string {
	text := "frozen"
	if who := by(f.By, f.Reason); who != "" {
		text += " " + who
	}
	text += " since " + moment(f.At)
	if f.Reverts {
		text += ", reverts too"
	}
	return text
}

func by(who, why string) string {
	text := ""
	if who != "" {
		text = "by " + who
	}
	if why != "" {
		text += " (" + why + ")"
	}
	return strings.TrimSpace(text)
}

func moment(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

// sentence makes one of a text.
func sentence(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:] + "."
}

// cut shortens s to n characters.
func cut(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n])
	}
	return s
}
