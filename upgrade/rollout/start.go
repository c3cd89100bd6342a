package rollout

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/etcdkv"
)

// maxRolloutID bounds the id of a rollout, in bytes: the books may name it once for
// each agent.
const maxRolloutID = 32

// maxDocument bounds a configuration document, in bytes, as package config does.
const maxDocument = 1 << 20

// nothing is the document that says nothing: what a scope without a document of
// its own goes back to. When a rollout has completed, the scope's own is the very
// one that a revert is to leave.
const nothing = "{}\n"

// StartOptions say how a rollout starts.
type StartOptions struct {
	// Replace ends another rollout that is under way: its agents stay as they are
	// until the new one admits them. It also puts one in the place of a plan that
	// cannot be read.
	Replace bool
	// Document is that of Plan.Target.Config, whose Digest is filled in.
	// Previous is that of Plan.Previous.Config; where both are nil, the scope's own
	// is kept for a revert, or one that says nothing if it has none.
	Document, Previous []byte
}

// Start begins the rollout p, whose By and Reason say who asks and why, and
// returns it as it was written: with its defaults, and with an ID where it had
// none. The error wraps ErrUnderWay if there is another that has not ended.
func (o *Operator) Start(ctx context.Context, p Plan, opts StartOptions) (Plan, error) {
	at := time.Now()
	act := Act{p.By, p.Reason}
	if err := act.check(); err != nil {
		return Plan{}, err
	}
	p, err := o.configured(ctx, p, &opts)
	if err != nil {
		return Plan{}, err
	}
	if p, err = o.begun(p, at); err != nil {
		return Plan{}, err
	}
	p, err = o.change(ctx, func(s standing, _ time.Time) (draft, error) {
		if s.plan.err != nil && !opts.Replace {
			return draft{}, s.plan.err
		}
		last, err := o.newest(ctx, s.plan.value)
		if err != nil {
			return draft{}, err
		}
		if !p.Created.After(last) {
			p.Created = last.Add(time.Millisecond) // whatever clocks say: agents follow no older one
		}
		d := draft{plan: p, record: Record{At: at, By: p.By, Event: EventStarted, Why: p.Reason}}
		if s.plan.value != nil {
			if err := d.follow(o.keys, act, s, at, opts.Replace); err != nil {
				return d, err
			}
		}
		// At each attempt: whoever was faster may have dropped what no plan names.
		return d, o.layAll(ctx, &d, opts)
	})
	if err != nil {
		return Plan{}, err
	}
	_ = o.prune(ctx) // the next Start tries again
	return p, nil
}

// newest is when the rollout of p was created, and where that is not known the newest
// of the history; zero = there was none.
func (o *Operator) newest(ctx context.Context, p *Plan) (created time.Time, err error) {
	if p != nil {
		return p.Created, nil
	}
	chains, err := o.chains(ctx)
	for _, c := range chains[:min(len(chains), HistorySize)] {
		var first struct {
			Plan struct {
				Created time.Time `json:"created"`
			} `json:"plan"`
		}
		limited, cancel := context.WithTimeout(ctx, callTimeout)
		r, err := o.client.Get(limited, o.keys.record(c.id, 1))
		cancel()
		if err != nil {
			return created, o.failed("read the history", err)
		}
		// Whatever version wrote it.
		if len(r.Kvs) > 0 && json.Unmarshal(r.Kvs[0].Value, &first) == nil && first.Plan.Created.After(created) {
			created = first.Plan.Created
		}
	}
	return created, err
}

// follow has d go on with the chain of the rollout before it, which is over or is
// replaced.
func (d *draft) follow(k keys, a Act, s standing, at time.Time, replace bool) error {
	d.before = *s.plan.value
	switch was := &d.before; {
	case was.State.Over():
		return nil
	case !replace:
		return fmt.Errorf("start a rollout in fleet %s: %s is %s: %w: wait for it, abort it, or replace it", k.fleet, was.ID, was.State, ErrUnderWay)
	}
	return d.replace(k, a, s, at)
}

// replace has d record the end of the rollout before it, too.
func (d *draft) replace(k keys, a Act, s standing, at time.Time) error {
	r := a.record(EventReplaced, s, at)
	r.Why = a.why("replaced by rollout " + d.plan.ID)
	w, err := k.seal(draft{before: d.before, plan: d.before, record: r})
	if err != nil {
		return err
	}
	d.before.History = w.plan.History
	// Of that write the record only: the plan is the next one's.
	d.then = append(d.then, w.then[len(w.then)-1])
	return nil
}

// begun is p as it begins.
func (o *Operator) begun(p Plan, at time.Time) (Plan, error) {
	p.Schema, p.Fleet, p.Created = Schema, o.keys.fleet, at.UTC()
	if p.ID == "" {
		// By their ids rollouts are in the order of their beginnings.
		p.ID = at.UTC().Format("20060102-150405") + "-" + strings.ToLower(rand.Text()[:6])
	}
	if err := etcdkv.ValidID(p.ID); err != nil || p.ID == freezeChain || len(p.ID) > maxRolloutID {
		return p, fmt.Errorf("rollout %.130q: want an id that is none of the fleet's own, of at most %d letters, digits, dots, underscores and hyphens", p.ID, maxRolloutID)
	}
	p = p.enter(Running, "", at)
	p.Instruction = Instruction{Number: 1, Action: ActSwitch}
	if p.Strategy == BlueGreen {
		p.Instruction.Action = ActStage
	}
	p.Stage, p.StageSince, p.SoakSince, p.Promoted, p.Cursor, p.Seq, p.History = 0, at.UTC(), time.Time{}, 0, Cursor{}, 0, ""
	p = p.WithDefaults()
	if err := p.Validate(); err != nil {
		return p, err
	}
	return p, p.validateRoom()
}

// validateRoom reports a plan that could not be written any more once it has moved.
func (p *Plan) validateRoom() error {
	value, err := encode(p)
	if most := MaxPlanBytes - planGrowth; err == nil && len(value) > most {
		err = fmt.Errorf("plan %s has %d bytes, at most %d may begin, so that there is room for what moves: have fewer stages, shorter queries of checks, fewer windows, environments or binaries", p.ID, len(value), most)
	}
	return err
}

// configured fills in the digests of the documents of p, and in opts what a
// revert goes back to.
func (o *Operator) configured(ctx context.Context, p Plan, opts *StartOptions) (Plan, error) {
	if p.Target.Config == nil {
		if opts.Document != nil || opts.Previous != nil {
			return p, errors.New("start a rollout: there is a document in StartOptions, and none in Plan.Target.Config")
		}
		return p, nil
	}
	target, previous := *p.Target.Config, ConfigTarget{Scope: p.Target.Config.Scope}
	own, err := o.published(ctx, target.Scope)
	if err != nil {
		return p, err
	}
	if len(own) == 0 {
		own = []byte(nothing)
	}
	p.Over = digestOf(own)
	if p.Previous.Config != nil {
		previous = *p.Previous.Config
	} else if opts.Previous == nil {
		opts.Previous = own
	}
	for _, c := range []struct {
		config   *ConfigTarget
		document []byte
	}{{&target, opts.Document}, {&previous, opts.Previous}} {
		if len(c.document) > maxDocument {
			return p, fmt.Errorf("configuration %s: document of %d bytes: want at most %d", c.config.Scope, len(c.document), maxDocument)
		}
		if c.document != nil {
			c.config.Digest = digestOf(c.document)
		}
	}
	if opts.Document != nil {
		if err := o.checkDocument(opts.Document); err != nil {
			return p, fmt.Errorf("configuration %s: %w", target.Scope, err)
		}
	}
	if target.Digest == "" {
		return p, fmt.Errorf("configuration %s: StartOptions.Document is missing", target.Scope)
	}
	p.Target.Config, p.Previous.Config = &target, &previous
	return p, nil
}

// layAll lays the documents of d where agents find them, and has d compare that
// they are there. Those whose rollout is never written are dropped when a later
// one starts.
func (o *Operator) layAll(ctx context.Context, d *draft, opts StartOptions) error {
	for _, document := range [][]byte{opts.Document, opts.Previous} {
		if document == nil {
			continue
		}
		if err := o.lay(ctx, document); err != nil {
			return err
		}
	}
	for _, digest := range documentsOf(d.plan) {
		d.when = append(d.when, clientv3.Compare(clientv3.CreateRevision(o.keys.document(digest)), ">", 0))
	}
	return nil
}

// documentsOf are the documents that a plan names, in hex.
func documentsOf(p Plan) []string {
	var all []string
	for _, c := range []*ConfigTarget{p.Target.Config, p.Previous.Config} {
		if c != nil && c.Digest != "" {
			all = append(all, strings.TrimPrefix(c.Digest, digestPrefix))
		}
	}
	return all
}

// published reads the document that a scope has; nil = none.
func (o *Operator) published(ctx context.Context, scope string) (document []byte, err error) {
	key := o.keys.root + "config/" + scope
	err = o.insist(ctx, func(ctx context.Context) (bool, error) {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		r, err := o.client.Get(ctx, key)
		if err != nil {
			return false, o.failed("read "+key, err)
		}
		if len(r.Kvs) > 0 {
			document = r.Kvs[0].Value
		}
		return true, nil
	})
	return document, err
}

// lay writes a document under its digest.
func (o *Operator) lay(ctx context.Context, document []byte) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	key := o.keys.document(strings.TrimPrefix(digestOf(document), digestPrefix))
	if _, err := o.client.Put(ctx, key, string(document)); err != nil {
		return o.failed("write "+key, err)
	}
	return nil
}
