package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

const (
	maxValueBytes = 4096
	maxArgsBytes  = 120 << 10 // the kernel takes 128 KiB in one argument
)

// command is one that tasks may ask for.
type command struct {
	name      string
	path      string
	args      []template
	params    map[string]param
	env       []variable
	dir       string
	account   *account // nil for the plugin's own
	timeout   time.Duration
	grace     time.Duration
	maxOutput int64
	permanent bool // a failure is not to be tried again
}

// account is whom a command runs as.
type account struct {
	Name   string   `json:"name"`
	Home   string   `json:"home"`
	UID    uint32   `json:"uid"`
	GID    uint32   `json:"gid"`
	Groups []uint32 `json:"groups"`
}

type param struct {
	pattern     *regexp.Regexp
	standard    *string
	leadingDash bool
}

type variable struct {
	name  string
	value template
}

// template is text with places for parameters.
type template []segment

// segment is a parameter's place, or literal text.
type segment struct{ literal, param string }

// parseTemplate reads text in which ${name} is a parameter's place.
func parseTemplate(text string) (template, error) {
	if strings.ContainsRune(text, 0) {
		return nil, errors.New("want text without a NUL byte, found one")
	}
	var t template
	literal := func(s string) {
		if n := len(t); n > 0 && t[n-1].param == "" {
			t[n-1].literal += s
		} else if s != "" {
			t = append(t, segment{literal: s})
		}
	}
	for {
		before, rest, found := strings.Cut(text, "${")
		if !found {
			literal(text)
			return t, nil
		}
		if escaped, ok := strings.CutSuffix(before, "$"); ok {
			literal(escaped + "${")
			text = rest
			continue
		}
		literal(before)
		name, after, closed := strings.Cut(rest, "}")
		if !closed || name == "" {
			return nil, fmt.Errorf("want ${name}, found %.60q; $${ stands for ${", "${"+rest)
		}
		t = append(t, segment{param: name})
		text = after
	}
}

// expand puts the values in. What begins with a dash only by a value is an
// option that the command's author did not write: it is refused if the
// parameter does not allow it.
func (t template) expand(values map[string]string, params map[string]param) (string, error) {
	var b strings.Builder
	for _, s := range t {
		if s.param == "" {
			b.WriteString(s.literal)
			continue
		}
		value := values[s.param]
		if b.Len() == 0 && strings.HasPrefix(value, "-") && !params[s.param].leadingDash {
			return "", fmt.Errorf("parameter %s: want a value that does not begin with a dash, found %.60q", s.param, value)
		}
		b.WriteString(value)
	}
	return b.String(), nil
}

func (p param) check(value string) error {
	switch {
	case len(value) > maxValueBytes:
		return fmt.Errorf("want at most %d bytes, found %d", maxValueBytes, len(value))
	case strings.ContainsRune(value, 0):
		return errors.New("want a value without a NUL byte, found one")
	case !p.pattern.MatchString(value):
		return fmt.Errorf("want a value that matches %s, found %.60q", p.pattern, value)
	}
	return nil
}

// invocation is a command with a task's values in it.
type invocation struct {
	argv, env []string
}

// invoke checks what a task gives and puts it in.
func (c *command) invoke(given map[string]string) (invocation, error) {
	for name := range given {
		if _, ok := c.params[name]; !ok {
			return invocation{}, fmt.Errorf("params: want some of %q, found %.60q", slices.Sorted(maps.Keys(c.params)), name)
		}
	}
	values := map[string]string{}
	for name, p := range c.params {
		value, ok := given[name]
		if !ok && p.standard == nil {
			return invocation{}, fmt.Errorf("params: want %s, found none", name)
		}
		if !ok {
			value = *p.standard
		}
		if err := p.check(value); err != nil {
			return invocation{}, fmt.Errorf("params: %s: %w", name, err)
		}
		values[name] = value
	}
	in := invocation{argv: []string{c.path}}
	size := 0
	for _, t := range c.args {
		arg, err := t.expand(values, c.params)
		if err != nil {
			return invocation{}, err
		}
		size += len(arg)
		in.argv = append(in.argv, arg)
	}
	for _, v := range c.env {
		// No option can begin in a variable.
		var b strings.Builder
		for _, s := range v.value {
			b.WriteString(s.literal + values[s.param])
		}
		size += b.Len()
		in.env = append(in.env, v.name+"="+b.String())
	}
	if size > maxArgsBytes {
		return invocation{}, fmt.Errorf("params: want at most %d bytes in all arguments, found %d", maxArgsBytes, size)
	}
	return in, nil
}

// vet says why the command cannot be run, or its executable not be trusted to
// be what the settings mean.
func (c *command) vet() error {
	if fi, err := os.Stat(c.dir); err != nil {
		return fmt.Errorf("dir: %w", err)
	} else if !fi.IsDir() {
		return fmt.Errorf("dir: want a directory, found %s: %s", c.dir, fi.Mode())
	}
	path, err := filepath.EvalSymlinks(c.path)
	if err != nil {
		return fmt.Errorf("path: %w", err)
	}
	fi, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("path: %w", err)
	}
	if !fi.Mode().IsRegular() || fi.Mode().Perm()&0o111 == 0 {
		return fmt.Errorf("path: want an executable file, found %s: %s", path, fi.Mode())
	}
	if fi.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("path: want a file that neither its group nor others may write, found %s: %s; chmod go-w %s", path, fi.Mode(), path)
	}
	if err := ownedWell(path, fi); err != nil {
		return fmt.Errorf("path: %w", err)
	}
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		fi, err := os.Stat(dir)
		if err != nil {
			return fmt.Errorf("path: %w", err)
		}
		if fi.Mode().Perm()&0o002 != 0 && fi.Mode()&os.ModeSticky == 0 {
			return fmt.Errorf("path: want directories in which others cannot replace it, found %s: %s", dir, fi.Mode())
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}
