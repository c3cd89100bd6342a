package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/agent"
	"github.com/perennial-go/perennial/config"
)

// awaited is a change of a document that the agents concerned are to take.
type awaited struct {
	scope    string
	revision int64
	deleted  bool
	// latest is the newest revision of the document that is known of. What an
	// agent says of a later one is from an etcd that has lost its data.
	latest int64
}

// layer is the revision of the document in what an agent runs; 0 = none.
func (w awaited) layer(s *config.Status) int64 {
	for _, l := range s.Layers {
		if isDocument(l.Name, w.scope) {
			return l.Revision
		}
	}
	return 0
}

// isDocument tells whether the key is that of the document of scope.
func isDocument(key, scope string) bool { return strings.HasSuffix(key, "/config/"+scope) }

func (w awaited) runs(s *config.Status) bool {
	if s.RunningDigest == "" { // a release that tells no layers
		return !w.deleted && s.Running >= w.revision
	}
	running := w.layer(s)
	if w.deleted && running == 0 {
		return true
	}
	return running >= w.revision && running <= w.latest
}

// refused is why the agent keeps what it had; final if it does not try again
// by itself. A refusal tells the newest of the documents, which after a
// deletion is an older one: it may be about what was wanted before.
func (w awaited) refused(s *config.Status) (f *config.Failure, final bool) {
	f = s.LastFailed
	if f == nil || !w.deleted && f.Revision < w.revision || s.RunningDigest != "" && !isRefusing(s) {
		return nil, false
	}
	return f, !w.deleted && (f.Subscriber == "" || f.Attempts >= config.ApplyAttempts)
}

// isRefusing tells whether what the agent wants is what it refused last.
func isRefusing(s *config.Status) bool {
	return s.LastFailed != nil && s.LastFailed.Digest == s.WantedDigest && s.WantedDigest != s.RunningDigest
}

// outcome is what the agents concerned made of a change.
type outcome struct {
	Agents  int              `json:"agents"`
	Running int              `json:"running"`
	Refused []refusedByAgent `json:"refused,omitempty"`
	// Trying are those that have refused it and will try again.
	Trying  []refusedByAgent  `json:"trying,omitempty"`
	waiting map[string]string // id to version, those that try among them
}

type refusedByAgent struct {
	Agent   string `json:"agent"`
	Version string `json:"version"`
	// Key is the layer at fault, which may be another one.
	Key    string `json:"key"`
	Reason string `json:"reason"`
}

func (r refusedByAgent) String() string {
	return fmt.Sprintf("%s (%s) because of %s: %s", r.Agent, dash(r.Version), dash(r.Key), r.Reason)
}

// outcomeOf counts what the agents tell of the change.
func outcomeOf(agents []configAgent, w awaited) outcome {
	o := outcome{Agents: len(agents), waiting: map[string]string{}}
	for _, a := range agents {
		if a.status == nil {
			o.waiting[a.id] = a.version
			continue
		}
		if w.runs(a.status.Config) {
			o.Running++
			continue
		}
		why, final := w.refused(a.status.Config)
		if !final {
			o.waiting[a.id] = a.version
		}
		if why != nil {
			to := &o.Trying
			if final {
				to = &o.Refused
			}
			*to = append(*to, refusedByAgent{a.id, a.version, why.Key, why.Reason})
		}
	}
	return o
}

func (o outcome) String() string {
	text := fmt.Sprintf("%d of %d agents run it", o.Running, o.Agents)
	if len(o.Refused) > 0 {
		text += fmt.Sprintf(", refused by %d", len(o.Refused))
	}
	if len(o.Trying) > 0 {
		text += fmt.Sprintf(", %d try again", len(o.Trying))
	}
	return text
}

// await follows the agents that the document concerns until each has taken the
// change or refused it for good.
func (c *configFlags) await(ctx context.Context, client *clientv3.Client, w awaited, limit time.Duration, to io.Writer) (outcome, error) {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var last outcome
	told, done := "", false
	err := c.directory(func(d *agent.Directory) error {
		return d.Watch(limited, func(s *agent.Snapshot, _ agent.Changes) {
			var agents []configAgent
			for _, e := range s.List(agent.Selector{}) {
				if a := newConfigAgent(*e); a.concerns(w.scope) && a.follows() {
					agents = append(agents, a)
				}
			}
			w.latest = c.latest(limited, client, w, agents)
			last = outcomeOf(agents, w)
			if text := last.String(); text != told {
				told = text
				say(to, "%s", text)
			}
			if done = len(last.waiting) == 0; done {
				cancel()
			}
		})
	})
	switch {
	case ctx.Err() != nil:
		return last, ctx.Err()
	case !done && limited.Err() == nil:
		return last, err
	}
	return last, last.verdict(w, limit)
}

// latest is the newest revision of the document, which is asked for only if an
// agent tells of one that is not known.
func (c *configFlags) latest(ctx context.Context, client *clientv3.Client, w awaited, agents []configAgent) int64 {
	latest := max(w.latest, w.revision)
	for _, a := range agents {
		if a.status != nil && a.status.Config != nil && w.layer(a.status.Config) > latest {
			if now, err := c.get(ctx, client, w.scope); err == nil {
				latest = max(latest, now.Revision)
			}
			break
		}
	}
	return latest
}

// verdict is nil if all agents run what was wanted.
func (o outcome) verdict(w awaited, limit time.Duration) error {
	var wrong []error
	if n := len(o.Refused); n > 0 {
		wrong = append(wrong, fmt.Errorf("want %d agents to run revision %d of %s, found it refused by %d, which keep what they had: %s; agentd fleet shows all, agentd config history %s what there is to go back to (config rollback --to)",
			o.Agents, w.revision, w.scope, n, o.Refused[0], w.scope))
	}
	if n := len(o.waiting); n > 0 {
		why := ""
		if len(o.Trying) > 0 {
			why = fmt.Sprintf("; %d refused it so far, and try again: %s", len(o.Trying), o.Trying[0])
		}
		wrong = append(wrong, fmt.Errorf("want an answer of %d agents within %v, found none of %d, such as %s: it is done, and they take it when they can; see agentd fleet%s", o.Agents, limit, n, some(o.waiting), why))
	}
	return errors.Join(wrong...)
}

// some names one agent of several.
func some(agents map[string]string) string {
	least := ""
	for id := range agents {
		if least == "" || id < least {
			least = id
		}
	}
	return fmt.Sprintf("%s (%s)", least, dash(agents[least]))
}
