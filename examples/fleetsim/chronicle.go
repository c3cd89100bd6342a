package fleetsim

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/agent"
	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/upgrade/rollout"
)

// Chronicle is all that was ever written of a fleet's rollouts, as etcd's
// history has it: it is read with none of the code that wrote it.
type Chronicle struct {
	// Steps are the writes of the plan, in turn.
	Steps []Write
	// Alone counts the writes of books without a plan.
	Alone int
	// Departures are the agents that left the registry, in turn.
	Departures []Departure
	// Words are what agents have said of the plan, in turn.
	Words []Word
	// Began and Ended are the times of the first and of the last record.
	Began, Ended time.Time
}

// Write is one revision in which the plan was written.
type Write struct {
	Revision int64
	Plan     rollout.Plan
	Books    *rollout.Books
	Record   *rollout.Record
	// Digest is that of the record's value.
	Digest string
	// Records counts those of the revision.
	Records int
}

// Departure is an agent that left the registry: its lease ended, or it was taken
// away.
type Departure struct {
	ID       string
	Revision int64
	// Report is the last word on the plan that it left in etcd; nil = none.
	Report *rollout.Report
}

// Word is what an agent said of the plan when it was news.
type Word struct {
	ID     string
	Report rollout.Report
}

// String tells it for people.
func (w Word) String() string {
	return fmt.Sprintf("%s %s of %s at %s %s", w.ID, w.Report.State, w.Report.Request, w.Report.At.Format("05.000"), w.Report.Reason)
}

// ReadChronicle reads from etcd's revision from on, up to now.
func ReadChronicle(ctx context.Context, c *clientv3.Client, root, fleet string, from int64) (*Chronicle, error) {
	root = etcdkv.CleanRoot(root)
	end, err := c.Put(ctx, root+"end-of-chronicle", "")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	t := &Chronicle{}
	plan, below := root+"plan/"+fleet, root+"rollout/"+fleet+"/"
	revision := map[int64]*Write{}
	for w := range c.Watch(ctx, root, clientv3.WithPrefix(), clientv3.WithRev(from), clientv3.WithPrevKV()) {
		if err := w.Err(); err != nil {
			return nil, err
		}
		for _, e := range w.Events {
			at := e.Kv.ModRevision
			if at >= end.Header.Revision {
				return t, t.gather(revision)
			}
			key := string(e.Kv.Key)
			if id, ok := strings.CutPrefix(key, root+"status/"); ok {
				if err := t.hear(id, e); err != nil {
					return nil, fmt.Errorf("%s at revision %d: %w", key, at, err)
				}
			}
			if e.Type != clientv3.EventTypePut || key != plan && !strings.HasPrefix(key, below) {
				continue
			}
			if revision[at] == nil {
				revision[at] = &Write{Revision: at}
			}
			if err := revision[at].note(key == plan, strings.TrimPrefix(key, below), e.Kv.Value); err != nil {
				return nil, fmt.Errorf("%s at revision %d: %w", key, at, err)
			}
		}
	}
	return nil, fmt.Errorf("the history was not read to its end: %w", context.Cause(ctx))
}

// hear notes what is in an agent's status, or gone with it.
func (t *Chronicle) hear(id string, e *clientv3.Event) error {
	before, err := reportOf(e.PrevKv)
	if err != nil {
		return err
	}
	if e.Type == clientv3.EventTypeDelete {
		t.Departures = append(t.Departures, Departure{ID: id, Revision: e.Kv.ModRevision, Report: before})
		return nil
	}
	now, err := reportOf(e.Kv)
	if err == nil && now != nil && !reflect.DeepEqual(now, before) {
		t.Words = append(t.Words, Word{id, *now})
	}
	return err
}

func reportOf(kv *mvccpb.KeyValue) (*rollout.Report, error) {
	if kv == nil {
		return nil, nil //nolint:nilnil // it says nothing
	}
	var s agent.Status
	err := json.Unmarshal(kv.Value, &s)
	return s.Rollout, err
}

func (w *Write) note(isPlan bool, below string, value []byte) error {
	switch {
	case isPlan:
		return json.Unmarshal(value, &w.Plan)
	case below == "books":
		w.Books = &rollout.Books{}
		return json.Unmarshal(value, w.Books)
	case strings.HasPrefix(below, "history/"):
		w.Records++
		w.Record = &rollout.Record{}
		sum := sha256.Sum256(value)
		w.Digest = "sha256:" + hex.EncodeToString(sum[:])
		return json.Unmarshal(value, w.Record)
	}
	return nil // the election, documents
}

// gather sorts out what belongs to the plan.
func (t *Chronicle) gather(all map[int64]*Write) error {
	for _, at := range sortedKeys(all) {
		w := all[at]
		switch {
		case w.Plan.ID != "":
			t.Steps = append(t.Steps, *w)
		case w.Record != nil:
			return fmt.Errorf("revision %d has the record %s without a write of the plan", at, w.Record.Event)
		case w.Books != nil:
			t.Alone++
		}
	}
	if len(t.Steps) > 0 {
		t.Began, t.Ended = t.Steps[0].Record.At, t.Steps[len(t.Steps)-1].Record.At
	}
	return nil
}

// Check reports what is not right about the writes of the rollout called id:
// each step is one revision with its record and books, the records are a chain
// without a gap, and the marks never take an agent's admission back.
func (t *Chronicle) Check(id string) error {
	var errs []error
	bad := func(w *Write, format string, args ...any) {
		errs = append(errs, fmt.Errorf("revision %d: %s", w.Revision, fmt.Sprintf(format, args...)))
	}
	var before *Write
	for i := range t.Steps {
		w := &t.Steps[i]
		if w.Plan.ID != id {
			continue
		}
		if w.Records != 1 || w.Record == nil {
			bad(w, "a write of the plan has %d records, want 1", w.Records)
			continue
		}
		if w.Record.Rollout != id || w.Record.Seq != w.Plan.Seq || w.Record.State != w.Plan.State {
			bad(w, "the record is number %d of %s (%s), the plan %d of %s (%s)", w.Record.Seq, w.Record.Rollout, w.Record.State, w.Plan.Seq, id, w.Plan.State)
		}
		if w.Plan.History != w.Digest {
			bad(w, "the plan names the record %s, it is %s", w.Plan.History, w.Digest)
		}
		if before != nil {
			t.follows(w, before, bad)
		}
		before = w
	}
	if before == nil {
		errs = append(errs, errors.New("no write of the plan"))
	}
	return errors.Join(errs...)
}

// follows checks a write against the one before.
func (t *Chronicle) follows(w, before *Write, bad func(*Write, string, ...any)) {
	if w.Plan.Seq != before.Plan.Seq+1 {
		bad(w, "number %d follows %d", w.Plan.Seq, before.Plan.Seq)
	}
	if w.Record.Before != before.Digest {
		bad(w, "the record names %s as the one before, it is %s", w.Record.Before, before.Digest)
	}
	if w.Plan.Instruction.Number < before.Plan.Instruction.Number {
		bad(w, "instruction %d follows %d", w.Plan.Instruction.Number, before.Plan.Instruction.Number)
	}
	if w.Plan.Instruction.Number != before.Plan.Instruction.Number {
		return
	}
	if w.Plan.Cursor.AsOf < before.Plan.Cursor.AsOf {
		bad(w, "as of %d follows %d", w.Plan.Cursor.AsOf, before.Plan.Cursor.AsOf)
	}
	for stage, mark := range before.Plan.Cursor.Marks {
		if stage >= len(w.Plan.Cursor.Marks) || mark.Open && (!w.Plan.Cursor.Marks[stage].Open || w.Plan.Cursor.Marks[stage].Rank < mark.Rank) {
			bad(w, "the mark of stage %d went back", stage)
		}
	}
}

func sortedKeys(all map[int64]*Write) []int64 { return slices.Sorted(maps.Keys(all)) }
