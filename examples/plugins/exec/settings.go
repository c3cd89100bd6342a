package main

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/perennial-go/perennial/plugin/sdk"
)

const (
	defaultConcurrency = 4
	mostConcurrency    = 64
	mostCommands       = 1000
	defaultTimeout     = time.Minute
	mostTimeout        = 24 * time.Hour
	defaultGrace       = 5 * time.Second
	mostGrace          = time.Minute
	defaultMaxOutput   = 1 << 20
	mostMaxOutput      = 64 << 20

	failureRetry     = "retry"
	failurePermanent = "permanent"
)

// ownEnv begins the names of variables that the plugin and its host set.
const ownEnv = "PERENNIAL_"

// settings is what the manifest sets.
type settings struct {
	Concurrency int                        `json:"concurrency"`
	Commands    map[string]commandSettings `json:"commands"`
}

type commandSettings struct {
	Path      string                   `json:"path"`
	Args      []string                 `json:"args"`
	Params    map[string]paramSettings `json:"params"`
	Env       map[string]string        `json:"env"`
	Dir       string                   `json:"dir"`
	User      string                   `json:"user"`
	Timeout   string                   `json:"timeout"`
	Grace     string                   `json:"grace"`
	MaxOutput int64                    `json:"max_output"`
	Failure   string                   `json:"failure"`
}

type paramSettings struct {
	Pattern     string  `json:"pattern"`
	Default     *string `json:"default"`
	LeadingDash bool    `json:"leading_dash"`
}

// readSettings returns how many commands may run at once, and which there are.
func readSettings(data []byte) (concurrency int, commands map[string]*command, err error) {
	s := settings{Concurrency: defaultConcurrency}
	if len(data) > 0 {
		if err := sdk.Decode(data, &s); err != nil {
			return 0, nil, fmt.Errorf("settings: %w", err)
		}
	}
	if s.Concurrency < 1 || s.Concurrency > mostConcurrency {
		return 0, nil, fmt.Errorf("settings: concurrency: want 1 to %d, found %d", mostConcurrency, s.Concurrency)
	}
	if n := len(s.Commands); n == 0 || n > mostCommands {
		return 0, nil, fmt.Errorf("settings: commands: want 1 to %d, found %d", mostCommands, n)
	}
	commands = make(map[string]*command, len(s.Commands))
	for _, name := range slices.Sorted(maps.Keys(s.Commands)) {
		c, err := newCommand(name, s.Commands[name])
		if err != nil {
			return 0, nil, fmt.Errorf("settings: command %q: %w", name, err)
		}
		commands[name] = c
	}
	return s.Concurrency, commands, nil
}

// Names of commands and of their parameters.
var (
	commandName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)
	paramName   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$`)
)

func newCommand(name string, s commandSettings) (*command, error) {
	if !commandName.MatchString(name) {
		return nil, errors.New("its name: want letters, digits, dots, underscores and hyphens, a letter or digit first")
	}
	if s.Path == "" || !filepath.IsAbs(s.Path) {
		return nil, fmt.Errorf("path: want an absolute path, found %q", s.Path)
	}
	if s.Dir == "" {
		s.Dir = "/"
	}
	if !filepath.IsAbs(s.Dir) {
		return nil, fmt.Errorf("dir: want an absolute path, found %q", s.Dir)
	}
	c := &command{name: name, path: s.Path, dir: s.Dir, params: map[string]param{}}
	var err error
	if c.timeout, err = duration(s.Timeout, defaultTimeout, mostTimeout); err != nil {
		return nil, fmt.Errorf("timeout: %w", err)
	}
	if c.grace, err = duration(s.Grace, defaultGrace, mostGrace); err != nil {
		return nil, fmt.Errorf("grace: %w", err)
	}
	if c.maxOutput = s.MaxOutput; c.maxOutput == 0 {
		c.maxOutput = defaultMaxOutput
	}
	if c.maxOutput < 0 || c.maxOutput > mostMaxOutput {
		return nil, fmt.Errorf("max_output: want 1 to %d bytes, found %d", mostMaxOutput, s.MaxOutput)
	}
	switch s.Failure {
	case "", failureRetry:
	case failurePermanent:
		c.permanent = true
	default:
		return nil, fmt.Errorf("failure: want %s or %s, found %q", failureRetry, failurePermanent, s.Failure)
	}
	if err := c.setUser(s.User); err != nil {
		return nil, fmt.Errorf("user: %w", err)
	}
	if err := c.setParams(s.Params); err != nil {
		return nil, err
	}
	if err := c.setTemplates(s.Args, s.Env); err != nil {
		return nil, err
	}
	return c, c.vet()
}

func duration(text string, standard, most time.Duration) (time.Duration, error) {
	if text == "" {
		return standard, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 || d > most {
		return 0, fmt.Errorf("want a duration up to %s such as 30s, found %q", most, text)
	}
	return d, nil
}

func (c *command) setParams(all map[string]paramSettings) error {
	for name, s := range all {
		if !paramName.MatchString(name) {
			return fmt.Errorf("params: want names of letters, digits, underscores and hyphens, found %q", name)
		}
		if s.Pattern == "" {
			return fmt.Errorf("params: %s: pattern: want a regular expression for the whole value, found none", name)
		}
		// Alone first: a parenthesis too many would end the group.
		if _, err := regexp.Compile(s.Pattern); err != nil {
			return fmt.Errorf("params: %s: pattern: %w", name, err)
		}
		whole, err := regexp.Compile(`\A(?:` + s.Pattern + `)\z`)
		if err != nil {
			return fmt.Errorf("params: %s: pattern: %w", name, err)
		}
		p := param{pattern: whole, standard: s.Default, leadingDash: s.LeadingDash}
		if s.Default != nil {
			if err := p.check(*s.Default); err != nil {
				return fmt.Errorf("params: %s: default: %w", name, err)
			}
		}
		c.params[name] = p
	}
	return nil
}

// setTemplates reads args and env; every parameter must be used, and be one.
func (c *command) setTemplates(args []string, env map[string]string) error {
	used := map[string]bool{}
	read := func(where, text string) (template, error) {
		t, err := parseTemplate(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", where, err)
		}
		for _, s := range t {
			if _, ok := c.params[s.param]; s.param != "" && !ok {
				return nil, fmt.Errorf("%s: ${%s}: want one of params, found no such", where, s.param)
			}
			used[s.param] = true
		}
		return t, nil
	}
	for i, text := range args {
		t, err := read(fmt.Sprintf("args: %d", i), text)
		if err != nil {
			return err
		}
		c.args = append(c.args, t)
	}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if name == "" || strings.ContainsAny(name, "=\x00") || strings.HasPrefix(name, ownEnv) {
			return fmt.Errorf("env: want names of variables, none that begins with %s, found %q", ownEnv, name)
		}
		t, err := read("env: "+name, env[name])
		if err != nil {
			return err
		}
		c.env = append(c.env, variable{name, t})
	}
	for name := range c.params {
		if !used[name] {
			return fmt.Errorf("params: %s: want ${%s} in args or env, found it nowhere", name, name)
		}
	}
	return nil
}
