package rollout

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/internal/strictjson"
)

const (
	// callTimeout bounds a call to etcd.
	callTimeout = 5 * time.Second
	// Bounds of values that are read, in bytes. etcd holds up to 1.5 MiB.
	maxBooks  = 2 << 20
	maxRecord = 1 << 20
	maxSmall  = 16 << 10 // a freeze, who leads
	// maxDepth is that of a record with a plan in it.
	maxDepth = maxPlanDepth + 1
)

// ErrSchema is wrapped by the error for a value that a newer version wrote.
var ErrSchema = errors.New("written by a newer version")

// store reads and writes the rollout of a fleet.
type store struct {
	client *clientv3.Client
	keys   keys
}

// watched are the keys that say where a rollout stands.
func (k keys) watched() []string { return []string{k.plan(), k.books(), k.freeze(), k.leader()} }

// known is the value of a key, as far as it is known.
type known[T any] struct {
	value        *T    // nil = there is none, or err says what is wrong with it
	mod, created int64 // 0 = there is none
	err          error
}

// set takes over what a key holds; nil = nothing.
func (k *known[T]) set(key string, v *etcdkv.Value, parse func(key string, data []byte) (*T, error)) {
	if v == nil {
		*k = known[T]{}
		return
	}
	if v.ModRevision == k.mod {
		return
	}
	*k = known[T]{mod: v.ModRevision, created: v.CreateRevision}
	k.value, k.err = parse(key, v.Data)
}

// standing is where a rollout stands.
type standing struct {
	revision int64
	plan     known[Plan]
	books    known[Books]
	freeze   known[Freeze]
	leader   known[Leader]
}

// mods are the revisions of what is known.
func (s *standing) mods() [4]int64 {
	return [4]int64{s.plan.mod, s.books.mod, s.freeze.mod, s.leader.mod}
}

// take takes over what one of the watched keys holds.
func (s *standing) take(k keys, key string, v *etcdkv.Value) {
	switch key {
	case k.plan():
		s.plan.set(key, v, func(key string, data []byte) (*Plan, error) {
			p, err := ParsePlan(data)
			if err != nil {
				return nil, fmt.Errorf("%s: %w: %w", key, ErrPlan, err)
			}
			return &p, nil
		})
	case k.books():
		s.books.set(key, v, parser[Books](maxBooks))
	case k.freeze():
		s.freeze.set(key, v, parser[Freeze](maxSmall))
	case k.leader():
		s.leader.set(key, v, parser[Leader](maxSmall))
	}
}

func parser[T any](most int) func(key string, data []byte) (*T, error) {
	return func(key string, data []byte) (*T, error) {
		into := new(T)
		if err := decode(key, data, most, into); err != nil {
			return nil, err
		}
		return into, nil
	}
}

// stands makes a standing of the values of the watched keys.
func (k keys) stands(revision int64, values map[string]etcdkv.Value) standing {
	s := standing{revision: revision}
	for _, key := range k.watched() {
		if v, ok := values[key]; ok {
			s.take(k, key, &v)
		}
	}
	return s
}

// view is what s shows. A brake that cannot be read is pulled.
func (s *standing) view() View {
	v := View{Revision: s.revision, Plan: s.plan.value, Freeze: s.freeze.value, Leader: s.leader.value}
	var trouble []string
	if v.Leader != nil && v.Leader.Trouble != "" {
		trouble = append(trouble, v.Leader.Trouble)
	}
	for _, err := range []error{s.books.err, s.freeze.err, s.leader.err} {
		if err != nil && !slices.ContainsFunc(trouble, func(told string) bool { return strings.Contains(told, err.Error()) }) {
			trouble = append(trouble, err.Error())
		}
	}
	v.Trouble = strings.Join(trouble, "; ")
	if s.freeze.err != nil {
		v.Freeze = &Freeze{Reason: "it cannot be read: " + s.freeze.err.Error(), Reverts: true}
	}
	if b := s.books.value; b != nil && v.Plan != nil && b.Rollout == v.Plan.ID {
		v.Books = b // and not of another one
	}
	return v
}

// decode reads a value of this schema, and refuses a newer one and a large one.
func decode(key string, data []byte, most int, into any) error {
	return strictjson.Format{Schema: Schema, MaxBytes: most, Depth: maxDepth, Newer: ErrSchema}.Decode(key, data, into)
}

// encode leaves <, > and & as they are: no browser reads this.
func encode(value any) (string, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(value)
	return string(bytes.TrimSuffix(b.Bytes(), []byte("\n"))), err
}

// digestOf is that of a record's value, and of a document.
func digestOf(value []byte) string {
	sum := sha256.Sum256(value)
	return digestPrefix + fmt.Sprintf("%x", sum)
}

// now reads where the rollout stands.
func (s *store) now(ctx context.Context) (standing, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r, err := s.client.Txn(ctx).Then(gets(s.keys.watched())...).Commit()
	if err != nil {
		return standing{}, s.failed("read the rollout", err)
	}
	return s.keys.stands(r.Header.Revision, valuesOf(r)), nil
}

func gets(keys []string) []clientv3.Op {
	var ops []clientv3.Op
	for _, key := range keys {
		ops = append(ops, clientv3.OpGet(key))
	}
	return ops
}

func valuesOf(r *clientv3.TxnResponse) map[string]etcdkv.Value {
	values := map[string]etcdkv.Value{}
	for _, part := range r.Responses {
		for _, kv := range part.GetResponseRange().GetKvs() {
			values[string(kv.Key)] = etcdkv.Value{Data: kv.Value, ModRevision: kv.ModRevision, CreateRevision: kv.CreateRevision, Lease: kv.Lease}
		}
	}
	return values
}

func (s *store) failed(what string, err error) error {
	return fmt.Errorf("%s of fleet %s: etcd at %s: %w", what, s.keys.fleet, etcdkv.Endpoints(s.client), err)
}

// draft is a write of a plan that is to be made.
type draft struct {
	// before is the plan whose chain of records it goes on with.
	before Plan
	plan   Plan  // without the Seq and History of this write
	over   int64 // mod revision of the plan that it takes the place of; 0 = none
	record Record
	// when is what is to hold, and then what else is to be done with it.
	when []clientv3.Cmp
	then []clientv3.Op
}

// written is a draft that is ready to be written, or was.
type written struct {
	plan   Plan
	record Record
	when   []clientv3.Cmp
	then   []clientv3.Op
}

// seal gives d its place in the chain of records.
func (k keys) seal(d draft) (written, error) {
	w := written{plan: d.plan, record: d.record}
	if w.plan.Seq = 1; d.before.ID == d.plan.ID {
		w.plan.Seq = d.before.Seq + 1
	}
	r := &w.record
	r.Schema, r.Fleet, r.Rollout, r.Seq, r.Before = Schema, k.fleet, w.plan.ID, w.plan.Seq, d.before.History
	r.State, r.Stage, r.At = w.plan.State, w.plan.Stage, r.At.UTC()
	if r.Seq == 1 {
		first := w.plan
		first.History = ""
		r.Plan = &first
	}
	line, err := encode(r)
	if err != nil {
		return w, err
	}
	w.plan.History = digestOf([]byte(line))
	value, err := w.plan.written()
	if err != nil {
		return w, err
	}
	record := k.record(r.Rollout, r.Seq)
	w.when = append(slices.Clone(d.when),
		clientv3.Compare(clientv3.ModRevision(k.plan()), "=", d.over),
		clientv3.Compare(clientv3.CreateRevision(record), "=", 0))
	w.then = slices.Clone(d.then)
	if old := r.Seq - keepTail; old > keepHead {
		w.then = append(w.then, clientv3.OpDelete(k.record(r.Rollout, old)))
	}
	w.then = append(w.then, clientv3.OpPut(k.plan(), value), clientv3.OpPut(record, line))
	return w, nil
}

// written is p as it is written: never what nobody could read again, with which the
// fleet would stand still until the plan is replaced. Where there is hardly room, Why
// is cut: a rollout can be paused, halted and reverted all the same.
func (p *Plan) written() (string, error) {
	value, err := encode(p)
	for err == nil && len(value) > MaxPlanBytes && p.Why != "" {
		p.Why = clip(p.Why, max(0, len(p.Why)-(len(value)-MaxPlanBytes)))
		value, err = encode(p)
	}
	if err != nil {
		return "", err
	}
	if _, err := ParsePlan([]byte(value)); err != nil {
		return "", fmt.Errorf("what is to be written could not be read again: %w", err)
	}
	return value, nil
}

// stray reports a record that lies where w's is to be, while the plan is still the one
// that w was to take the place of: no write of that plan is done as long as it does.
func (s *store) stray(ctx context.Context, w written, over int64) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	key := s.keys.record(w.record.Rollout, w.record.Seq)
	r, err := s.client.Txn(ctx).If(
		clientv3.Compare(clientv3.ModRevision(s.keys.plan()), "=", over), clientv3.Compare(clientv3.CreateRevision(key), ">", 0),
	).Commit()
	if err != nil {
		return s.failed("read the history", err)
	}
	if r.Succeeded {
		return fmt.Errorf("%w: %s is there already, where the next record of rollout %s is to be: delete it, or start a rollout with another id", ErrHistory, key, w.record.Rollout)
	}
	return nil
}

// commit writes w. Where what it compares is not so, done is false and found is
// what is there. With an error it may have been written.
func (s *store) commit(ctx context.Context, when []clientv3.Cmp, then []clientv3.Op) (revision int64, done bool, found standing, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r, err := s.client.Txn(ctx).If(when...).Then(then...).Else(gets(s.keys.watched())...).Commit()
	if err != nil {
		return 0, false, standing{}, s.failed("write the rollout", err)
	}
	if r.Succeeded {
		return r.Header.Revision, true, standing{}, nil
	}
	return 0, false, s.keys.stands(r.Header.Revision, valuesOf(r)), nil
}
