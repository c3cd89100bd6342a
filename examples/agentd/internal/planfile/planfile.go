// Package planfile reads rollouts as people write them: a file in YAML, and the
// short texts of flags. It checks their form; whether the plan that comes of them
// can be followed is for package rollout to say.
package planfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/perennial-go/perennial/upgrade/rollout"
)

// Schema is the number of the format.
const Schema = 1

// Bounds on outside bytes.
const (
	// MaxBytes bounds a file; a plan in etcd is smaller still.
	MaxBytes = 64 << 10
	maxDepth = 16
)

// File is a plan as it is written. Fields that are left out are the defaults of
// rollout.Plan.
type File struct {
	Schema int `yaml:"schema"`
	// Version is the release: a version, a pin or a range. Config is set instead
	// where a document is rolled out.
	Version string  `yaml:"version"`
	Config  *Config `yaml:"config"`

	Reason       string         `yaml:"reason"`
	Strategy     string         `yaml:"strategy"`
	Selector     string         `yaml:"selector"`
	OnFailure    string         `yaml:"on_failure"`
	PastSilent   bool           `yaml:"past_silent"`
	Deadline     *time.Duration `yaml:"deadline"` // nil = the default: 0 is none
	Retain       *time.Duration `yaml:"retain"`
	Environments []string       `yaml:"environments"`
	Stages       []Stage        `yaml:"stages"`
}

// Config is a document in a file, relative to the plan's.
type Config struct {
	Scope string `yaml:"scope"`
	File  string `yaml:"file"`
}

// Parse reads a file. It is strict: an unknown or repeated field, an alias, a
// second document, another schema and more than MaxBytes are errors.
func Parse(data []byte) (File, error) {
	var f File
	if len(data) > MaxBytes {
		return f, fmt.Errorf("want a plan of at most %d bytes, found %d", MaxBytes, len(data))
	}
	var root yaml.Node
	if err := yaml.Unmarshal(data, &root); err != nil {
		return f, fmt.Errorf("want YAML: %w", err)
	}
	if err := plain(&root, 0); err != nil {
		return f, err
	}
	// The schema decides before the fields do: a later format may have more.
	var head struct {
		Schema *int `yaml:"schema"`
	}
	if err := root.Decode(&head); err != nil {
		return f, fmt.Errorf("want a mapping with schema: %d: %w", Schema, plainly(err))
	}
	switch {
	case head.Schema == nil:
		return f, fmt.Errorf("want schema: %d, found none", Schema)
	case *head.Schema != Schema:
		return f, fmt.Errorf("want schema: %d, found %d: use an agentd that knows it", Schema, *head.Schema)
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	if err := dec.Decode(&f); err != nil {
		return File{}, plainly(err)
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return File{}, errors.New("want one YAML document, found more")
	}
	return f, nil
}

// plainly says in words of the file what its decoder says in types of Go.
func plainly(err error) error {
	wrong, ok := errors.AsType[*yaml.TypeError](err)
	if !ok {
		return err
	}
	const found = `cannot unmarshal !!\w+ (.+?) into `
	texts := make([]string, 0, len(wrong.Errors))
	for _, text := range wrong.Errors {
		for _, say := range []struct{ of, as string }{
			{` not found in type [\w.]+`, " is not known here"},
			{`!!seq into`, "!!seq a list into"},
			{`!!map into`, "!!map a mapping into"},
			{found + `time\.Duration`, "want a duration such as 10m, found $1"},
			{found + `(?:int|float64)$`, "want a number, found $1"},
			{found + `bool$`, "want true or false, found $1"},
			{found + `string$`, "want a text, found $1"},
			{found + `\[\].+`, "want a list, found $1"},
			{found + `.+`, "want a mapping, found $1"},
		} {
			text = regexp.MustCompile(say.of).ReplaceAllString(text, say.as)
		}
		texts = append(texts, text)
	}
	return errors.New(strings.Join(texts, "; "))
}

// plain refuses what makes a small file large: aliases and depth.
func plain(n *yaml.Node, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("line %d: nested deeper than %d", n.Line, maxDepth)
	}
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		return fmt.Errorf("line %d: aliases and anchors are not allowed: write the value out", n.Line)
	}
	for _, c := range n.Content {
		if err := plain(c, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// Apply sets in p what the file says, but for what is rolled out.
func (f *File) Apply(p *rollout.Plan) error {
	p.Strategy, p.Selector, p.OnFailure = rollout.Strategy(f.Strategy), f.Selector, rollout.OnFailure(f.OnFailure)
	p.PastSilent, p.Reason, p.Environments = f.PastSilent, f.Reason, f.Environments
	var err error
	if f.Deadline != nil {
		if p.Deadline, err = Positive("deadline", *f.Deadline); err != nil {
			return err
		}
	}
	if f.Retain != nil {
		if p.RetainFor, err = Positive("retain", *f.Retain); err != nil {
			return err
		}
	}
	p.Stages = nil
	for i := range f.Stages {
		stage, err := f.Stages[i].plan()
		if err != nil {
			name := f.Stages[i].Name
			if name == "" {
				name = fmt.Sprint(i + 1)
			}
			return fmt.Errorf("stage %s: %w", name, err)
		}
		p.Stages = append(p.Stages, stage)
	}
	return nil
}

// Positive refuses a duration of none and less: 0 would stand for a default.
func Positive(what string, d time.Duration) (rollout.Seconds, error) {
	if d <= 0 {
		return 0, fmt.Errorf("%s: want a duration of more than 0, such as 10m, found %v", what, d)
	}
	return rollout.Seconds(d.Seconds()), nil
}

// Seconds refuses a duration that is less than none.
func Seconds(what string, d time.Duration) (rollout.Seconds, error) {
	if d < 0 {
		return 0, fmt.Errorf("%s: want a duration of 0 or more, such as 10m, found %v", what, d)
	}
	return rollout.Seconds(d.Seconds()), nil
}
