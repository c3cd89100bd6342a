package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/perennial-go/perennial/agent"
)

// agentID is what the agent is called.
const agentID = "q1"

// site is a directory and all that runs in it.
type site struct {
	opts   options
	screen *screen
	procs  processes

	dir     string
	keys    string // release.key and release.pub
	repo    string
	plugins string
	state   string // the agent's
	app     *appLog

	etcd    *process
	etcdURL string
	agent   *process // the agent's first process
	records string   // URL
	load    *load    // nil until it begins
	client  *http.Client
}

// newSite makes the directory.
func newSite(opts options, screen *screen) (*site, error) {
	if err := adopt(); err != nil {
		return nil, fmt.Errorf("the quickstart wants Linux, for its processes and its plugin hostmetrics: %w", err)
	}
	dir, err := os.MkdirTemp("", "perennial-")
	if err != nil {
		return nil, err
	}
	s := &site{opts: opts, screen: screen, dir: dir, client: &http.Client{
		Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true},
	}}
	for path, name := range map[*string]string{&s.keys: "keys", &s.repo: "repo", &s.plugins: "plugins", &s.state: "state"} {
		*path = filepath.Join(dir, name)
	}
	s.procs.temp = filepath.Join(dir, "tmp")
	s.app = &appLog{dir: filepath.Join(dir, "app"), quit: make(chan struct{})}
	for _, path := range []string{s.plugins, s.procs.temp, s.app.dir} {
		if err := os.Mkdir(path, 0o700); err != nil {
			return nil, errors.Join(err, os.RemoveAll(dir))
		}
	}
	return s, nil
}

// cli runs a command of agentd, as an operator would, and hands on its lines.
func (s *site) cli(ctx context.Context, each func(line string), args ...string) error {
	said, err := s.procs.command(ctx, each, append([]string{s.binary("agentd", "1.0.0")}, args...)...)
	if err != nil && said != "" {
		lines := strings.Split(said, "\n")
		return fmt.Errorf("%s (%w)", strings.TrimPrefix(lines[len(lines)-1], "agentd: "), err)
	}
	return err
}

// ask runs a command of agentd that answers with JSON.
func (s *site) ask(ctx context.Context, answer any, args ...string) error {
	var text strings.Builder
	if err := s.cli(ctx, func(line string) { text.WriteString(line) }, append(args, "-o", "json")...); err != nil {
		return err
	}
	return json.Unmarshal([]byte(text.String()), answer)
}

// registered is what the registry holds of the agent.
func (s *site) registered(ctx context.Context) (agent.Entry, error) {
	var entries []agent.Entry
	if err := s.ask(ctx, &entries, "fleet", "--etcd", s.etcdURL); err != nil {
		return agent.Entry{}, err
	}
	for _, e := range entries {
		if e.ID == agentID {
			if e.Status == nil {
				return e, errors.New("no status yet")
			}
			return e, nil
		}
	}
	return agent.Entry{}, fmt.Errorf("no agent %s among %d", agentID, len(entries))
}

// info is the answer to GET /v1/info.
type info struct {
	Version        string `json:"version"`
	PID            int    `json:"pid"`
	State          string `json:"state"`
	ConfigRevision int64  `json:"config_revision"`
}

// info asks on a fresh connection which process serves.
func (s *site) info(ctx context.Context) (info, error) {
	var i info
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.records+"/v1/info", http.NoBody)
	if err != nil {
		return i, err
	}
	res, err := s.client.Do(req)
	if err != nil {
		return i, err
	}
	defer func() { _ = res.Body.Close() }()
	return i, json.NewDecoder(res.Body).Decode(&i)
}

// waitLimit is far longer than anything that is waited for takes.
const waitLimit = time.Minute

// await asks look again and again until it finds no fault, and says after
// waitLimit which it found last.
func (s *site) await(ctx context.Context, what string, look func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, waitLimit)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		err := look(limited)
		if err == nil {
			return nil
		}
		if limited.Err() == nil {
			last = err
		}
		if err := s.procs.broken(); err != nil {
			return fmt.Errorf("%w; it was waited until %s", err, what)
		}
		s.progress(what)
		select {
		case <-tick.C:
		case <-limited.Done():
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return fmt.Errorf("not within %v: %s; found %w", waitLimit, what, last)
		}
	}
}

// progress shows on a terminal what is waited for and how the load fares.
func (s *site) progress(what string) {
	if s.load == nil {
		s.screen.pass("waiting until %s", what)
		return
	}
	t := s.load.total()
	s.screen.pass("%s requests, %d failed; waiting until %s", number(t.Requests), t.Failed, what)
}
