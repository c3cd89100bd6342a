package rollout

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// settle has d, where a rollout comes to its end, publish what that brings to
// the whole fleet: the pins of its environments, and its configuration document.
func (t *term) settle(ctx context.Context, d *draft, at time.Time) error {
	was, now := d.before.State, d.plan.State
	if was == now || now != Completed && now != Reverted {
		return nil
	}
	if d.plan.Target.Config != nil {
		err := t.publish(ctx, d)
		if errors.Is(err, ErrPublished) {
			d.hold(err, at)
			return nil
		}
		if err != nil {
			return err
		}
	}
	return t.pins(ctx, d, at)
}

// hold has d pause the rollout in place of ending it.
func (d *draft) hold(why error, at time.Time) {
	text := plain(why.Error(), maxText/2) + ": abort it, or revert it, and publish there what is meant; or publish the rollout's own document, or the one before, and resume"
	d.plan = d.before.enter(Paused, text, at)
	d.record.Event, d.record.Why = EventPaused, d.plan.Why
}

// pins has d move the pins of the plan's environments: to its target, and back
// where this rollout has moved them before.
func (t *term) pins(ctx context.Context, d *draft, at time.Time) error {
	p := d.plan
	if len(p.Environments) == 0 {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var ops []clientv3.Op
	for _, environment := range p.Environments {
		ops = append(ops, clientv3.OpGet(t.keys.pin(environment)))
	}
	r, err := t.client.Txn(limited).Then(ops...).Commit()
	if err != nil {
		return t.failed("read the pins", err)
	}
	for i, environment := range p.Environments {
		key := t.keys.pin(environment)
		var before Pin
		var revision int64
		for _, kv := range r.Responses[i].GetResponseRange().GetKvs() {
			revision = kv.ModRevision
			if before, err = ParsePin(environment, kv.Value); err != nil {
				before = Pin{} // it is put right
			}
		}
		if p.State == Reverted && (revision == 0 || before.Rollout != p.ID) {
			continue
		}
		op, err := p.pinOp(key, environment, before, at)
		if err != nil {
			return err
		}
		d.when = append(d.when, clientv3.Compare(clientv3.ModRevision(key), "=", revision))
		d.then = append(d.then, op)
	}
	return nil
}

// pinOp makes the pin of environment what p has brought, or brought back.
func (p *Plan) pinOp(key, environment string, before Pin, at time.Time) (clientv3.Op, error) {
	brought := *p
	if p.State == Reverted {
		brought.Target, brought.Binaries = p.Previous, nil
		if c := p.Target.Config; c != nil && (brought.Target.Config == nil || brought.Target.Config.none()) {
			brought.Target.Config = &ConfigTarget{Scope: c.Scope}
		}
	}
	next := brought.Pin(environment, before, at)
	if p.State == Reverted && before.Before != nil && (p.Previous.Release.IsZero() || p.Previous.Release == before.Before.Release) {
		next = *before.Before // what was meant to run is meant again
	}
	if p.State == Completed && before.Schema != 0 {
		next.Before = &before
		if before.Rollout == p.ID { // it had completed before, and was not brought back
			next.Before = before.Before
		}
		before.Before = nil
		if _, err := next.encode(); err != nil {
			next.Before = nil // both do not fit
		}
	}
	if p.State == Reverted && next.Validate() != nil {
		return clientv3.OpDelete(key), nil //nolint:nilerr // it is not known what is meant to run
	}
	value, err := next.encode()
	return clientv3.OpPut(key, value), err
}

// none reports whether the scope is to have no document.
func (c *ConfigTarget) none() bool { return c.Digest == "" || c.Digest == digestOf([]byte(nothing)) }

// publish has d make the document of the plan that of its scope, or bring back
// the one before if that has been done.
func (t *term) publish(ctx context.Context, d *draft) error {
	if t.cfg.Publisher == nil {
		return errors.New("a rollout of configuration does not end here: this controller has no Publisher")
	}
	target := d.plan.Target.Config
	document, err := t.document(ctx, target.Digest)
	if err != nil {
		return err
	}
	p := Publication{
		Scope: target.Scope, Document: document, By: d.plan.By, Message: clip("rollout "+d.plan.ID+" completed: "+d.plan.Reason, maxReason),
		over: d.plan.Over,
	}
	if d.plan.State == Reverted {
		p.Message, p.Document, p.Replaces, p.over = "rollout "+d.plan.ID+" was reverted", nil, document, ""
		if c := d.plan.Previous.Config; c != nil && !c.none() {
			if p.Document, err = t.document(ctx, c.Digest); err != nil {
				return err
			}
		}
	}
	when, then, err := t.cfg.Publisher.Prepare(ctx, p)
	if err != nil {
		return fmt.Errorf("publish configuration %s: %w", target.Scope, err)
	}
	d.when, d.then = append(d.when, when...), append(d.then, then...)
	return nil
}

// document reads a document by its digest.
func (s *store) document(ctx context.Context, digest string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	key := s.keys.document(strings.TrimPrefix(digest, digestPrefix))
	r, err := s.client.Get(ctx, key)
	switch {
	case err != nil:
		return nil, s.failed("read "+key, err)
	case len(r.Kvs) == 0:
		return nil, fmt.Errorf("%s is not in etcd: abort the rollout, or start it again with its document", key)
	case digestOf(r.Kvs[0].Value) != digest:
		return nil, fmt.Errorf("%s holds another document: its digest is %s", key, digestOf(r.Kvs[0].Value))
	}
	return r.Kvs[0].Value, nil
}
