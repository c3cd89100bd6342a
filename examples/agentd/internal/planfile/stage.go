package planfile

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/perennial-go/perennial/upgrade/rollout"
)

// Stage is a stage as it is written.
type Stage struct {
	Name           string        `yaml:"name"`
	Selector       string        `yaml:"selector"`
	Percent        string        `yaml:"percent"`
	Batch          string        `yaml:"batch"`
	MaxUnavailable string        `yaml:"max_unavailable"`
	PairBy         string        `yaml:"pair_by"`
	MaxSurge       string        `yaml:"max_surge"`
	Soak           time.Duration `yaml:"soak"`
	Gate           bool          `yaml:"gate"`
	Windows        []string      `yaml:"windows"`
	// SuccessAbove is a percentage, nil = the default: 0 is a demand as well.
	SuccessAbove *float64 `yaml:"success_above"`
	MinSample    int      `yaml:"min_sample"`
	Alerts       string   `yaml:"alerts"`
	Checks       []Check  `yaml:"checks"`
}

// Check is a check as it is written: its kind is the one field that is set.
type Check struct {
	Name       string        `yaml:"name"`
	Prometheus string        `yaml:"prometheus"` // URL of the server
	Query      string        `yaml:"query"`
	HTTP       string        `yaml:"http"` // URL
	Kind       string        `yaml:"kind"` // of the controller's own
	Timeout    time.Duration `yaml:"timeout"`
	Attempts   int           `yaml:"attempts"`
}

// stageKeys are what a stage of a flag may say, beside what only a file can.
func stageKeys() []string {
	return []string{"name", "selector", "percent", "batch", "max_unavailable", "pair_by", "max_surge", "soak", "gate", "window", "success_above", "min_sample", "alerts"}
}

// ParseStage reads "name=test,selector=env=test,percent=5": fields separated by
// commas; one that has a comma in it is put into double quotes, as in
// `"selector=env in (a,b)"`. A field window may be repeated.
func ParseStage(text string) (rollout.Stage, error) {
	r := csv.NewReader(strings.NewReader(text))
	fields, err := r.Read()
	if err != nil {
		return rollout.Stage{}, fmt.Errorf("want fields such as name=test,percent=5, and double quotes around one with a comma, found %q: %w", text, err)
	}
	if _, err := r.Read(); !errors.Is(err, io.EOF) {
		return rollout.Stage{}, fmt.Errorf("want one line, found more in %q", text)
	}
	node := yaml.Node{Kind: yaml.MappingNode}
	var windows yaml.Node
	for _, field := range fields {
		key, value, ok := strings.Cut(strings.TrimSpace(field), "=")
		key = strings.ReplaceAll(key, "-", "_")
		if !ok || !slices.Contains(stageKeys(), key) {
			return rollout.Stage{}, fmt.Errorf("want fields %s, each with = and a value, found %q; put double quotes around a field with a comma, as in '\"selector=env in (a,b)\"'", strings.Join(stageKeys(), ", "), field)
		}
		scalar := &yaml.Node{Kind: yaml.ScalarNode, Value: value}
		if key == "window" {
			windows.Content = append(windows.Content, scalar)
			continue
		}
		node.Content = append(node.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: key}, scalar)
	}
	if len(windows.Content) > 0 {
		windows.Kind = yaml.SequenceNode
		node.Content = append(node.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: "windows"}, &windows)
	}
	var s Stage
	if err := node.Decode(&s); err != nil {
		return rollout.Stage{}, fmt.Errorf("%q: %s", text, strings.ReplaceAll(err.Error(), "line 0: ", ""))
	}
	return s.plan()
}

// plan is the stage as agents read it.
func (s *Stage) plan() (rollout.Stage, error) {
	out := rollout.Stage{
		Name: s.Name, Selector: s.Selector, BasisPoints: 10_000, PairBy: s.PairBy, Manual: s.Gate,
		Judge: rollout.Judge{SuccessAbove: s.SuccessAbove, MinSample: s.MinSample, AlertSeverity: s.Alerts},
	}
	var err error
	if s.Percent != "" {
		if out.BasisPoints, err = ParsePercent(s.Percent); err != nil {
			return out, fmt.Errorf("percent: %w", err)
		}
	}
	for _, a := range []struct {
		name, text string
		to         *rollout.Amount
	}{{"batch", s.Batch, &out.Batch}, {"max_unavailable", s.MaxUnavailable, &out.MaxUnavailable}, {"max_surge", s.MaxSurge, &out.MaxSurge}} {
		if *a.to, err = ParseAmount(a.text); err != nil {
			return out, fmt.Errorf("%s: %w", a.name, err)
		}
	}
	if out.Soak, err = Seconds("soak", s.Soak); err != nil {
		return out, err
	}
	for _, text := range s.Windows {
		w, err := ParseWindow(text)
		if err != nil {
			return out, fmt.Errorf("windows: %w", err)
		}
		out.Windows = append(out.Windows, w)
	}
	for i := range s.Checks {
		check, err := s.Checks[i].plan()
		if err != nil {
			return out, fmt.Errorf("check %d: %w", i+1, err)
		}
		AddCheck(&out.Judge, check)
	}
	return out, nil
}

// The kinds of check that every controller has.
const (
	kindPrometheus = "prometheus"
	kindHTTP       = "http"
)

// plan is the check as a controller reads it.
func (c *Check) plan() (rollout.Check, error) {
	out := rollout.Check{Name: c.Name, Query: c.Query, Attempts: c.Attempts}
	set := 0
	for _, k := range []struct{ kind, url string }{{kindPrometheus, c.Prometheus}, {kindHTTP, c.HTTP}, {c.Kind, ""}} {
		if k.url != "" || k.kind != "" && k.kind == c.Kind {
			set++
			out.Kind, out.URL = k.kind, k.url
		}
	}
	if set != 1 {
		return out, fmt.Errorf("want one of prometheus: URL, http: URL and kind, found %d of them", set)
	}
	if out.Kind == kindPrometheus && c.Query == "" {
		return out, errors.New("want a query beside prometheus")
	}
	var err error
	out.Timeout, err = Seconds("timeout", c.Timeout)
	return out, err
}

// AddCheck adds a check, with a name of its own if it has none: answers are told
// apart by it.
func AddCheck(j *rollout.Judge, c rollout.Check) {
	taken := func(other rollout.Check) bool { return other.Name == c.Name }
	if c.Name == "" {
		c.Name = c.Kind
		for n := 2; slices.ContainsFunc(j.Checks, taken); n++ {
			c.Name = fmt.Sprintf("%s %d", c.Kind, n)
		}
	}
	j.Checks = append(j.Checks, c)
}

// ParseCheck reads "prometheus=URL,QUERY", "http=URL" or the name of a checker
// that the controller has.
func ParseCheck(text string) (rollout.Check, error) {
	kind, rest, _ := strings.Cut(text, "=")
	c := Check{}
	switch kind {
	case kindPrometheus:
		c.Prometheus, c.Query, _ = strings.Cut(rest, ",")
	case kindHTTP:
		c.HTTP = rest
	default:
		c.Kind = text
	}
	out, err := c.plan()
	if err != nil {
		return out, fmt.Errorf("want prometheus=URL,QUERY, http=URL or the name of a checker of the controller, found %q: %w", text, err)
	}
	return out, nil
}

// ParsePercent reads a percentage with at most two decimals as hundredths of a
// percent: "0.01", "5" and "100", with or without "%".
func ParsePercent(text string) (basisPoints int, err error) {
	number := strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(text), "%"))
	whole, part, dotted := strings.Cut(number, ".")
	w, err := strconv.ParseUint(whole, 10, 8)
	var p uint64
	if err == nil && len(part) > 0 {
		p, err = strconv.ParseUint((part + "0")[:max(2, len(part))], 10, 8)
	}
	if n := int(w)*100 + int(p); err == nil && len(part) <= 2 && (!dotted || part != "") && n >= 1 && n <= 10_000 {
		return n, nil
	}
	return 0, fmt.Errorf("want 0.01 to 100 percent with at most two decimals, such as 5%%, found %q", text)
}

// ParseAmount reads a number of agents, "5", or a part of them, "5%"; "" is none.
func ParseAmount(text string) (rollout.Amount, error) {
	text = strings.TrimSpace(text)
	if strings.HasSuffix(text, "%") {
		bp, err := ParsePercent(text)
		return rollout.Amount{BasisPoints: bp}, err
	}
	if text == "" {
		return rollout.Amount{}, nil
	}
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil || n == 0 {
		return rollout.Amount{}, fmt.Errorf("want a number of agents such as 5, or a part of them such as 5%%, found %q", text)
	}
	return rollout.Amount{Agents: int(n)}, nil
}
