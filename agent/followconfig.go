package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/config"
	"github.com/perennial-go/perennial/internal/backoff"
	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/upgrade"
	"github.com/perennial-go/perennial/upgrade/rollout"
)

// documentTimeout bounds one attempt to read a document of a rollout.
const documentTimeout = 5 * time.Second

// configHost does what a plan asks for about configuration documents: it lays
// them over those of their scope, and tells whether they come into force.
type configHost struct {
	*Agent
	overlay *config.Overlay
	moved   chan struct{} // tells that the overlay's Standing may be another
	tasks   sync.WaitGroup

	mu    sync.Mutex
	life  context.Context // of what is begun; nil before the agent is in charge
	order rollout.Order
	stand rollout.Standing // to order
	end   context.CancelFunc
	ended chan struct{} // closed once what was begun last has ended; nil = nothing was
	lays  bool          // order has begun to change what is in force
	laid  overlayFile
	// staged is a document that was read ahead, by its digest.
	staged map[string]stagedDocument
}

// attempt is an order that was begun: the same one, begun again, is another.
type attempt struct {
	rollout.Order
	ended chan struct{} // closed once it has left everything to the next
}

type stagedDocument struct {
	data     []byte
	revision int64
}

func newConfigHost(a *Agent) *configHost {
	h := &configHost{Agent: a, moved: make(chan struct{}, 1), staged: map[string]stagedDocument{}}
	h.overlay = config.NewOverlay(func() {
		ring(h.moved)
		a.following.look()
	})
	return h
}

// recall lays over what was laid over when the last process ended, before the
// configuration is read: a document that a rollout has brought outlives starts
// and swaps.
func (h *configHost) recall() {
	laid, err := readOverlay(h.path())
	if err != nil {
		h.log.Error("configuration that a rollout has brought is not known any more: the published one is read", "error", err)
	}
	h.mu.Lock()
	h.laid = laid
	h.mu.Unlock()
	for scope, d := range laid.Documents {
		if err := h.overlay.Resume(scope, d.Data, d.Revision, d.Over); err != nil {
			h.log.Error("configuration of a rollout not laid over", "error", err)
		} else if d.Yields {
			h.overlay.Yield(scope)
		}
	}
}

func (h *configHost) path() string { return filepath.Join(h.cfg.StateDir, overlayFileName) }

// begun has what begins from now on live until ctx ends; tasks joins it.
func (h *configHost) begun(ctx context.Context) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.life = ctx
}

// begin replaces what was begun before, once that has left everything to it.
func (h *configHost) begin(o rollout.Order) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.end != nil {
		h.end()
	}
	limit := o.GiveUp
	if limit <= 0 {
		limit = time.Hour
	}
	ctx, cancel := context.WithTimeout(h.life, limit)
	before, at := h.ended, attempt{o, make(chan struct{})}
	h.order, h.stand, h.end, h.ended = o, rollout.Standing{State: rollout.ReportStarted}, cancel, at.ended
	h.lays = false
	h.tasks.Go(func() {
		defer close(at.ended)
		defer cancel()
		if before != nil {
			<-before
		}
		s := h.perform(ctx, at)
		h.mu.Lock()
		if h.asked(at) && h.life.Err() == nil { // else the next process finds out
			h.stand = s
		}
		h.mu.Unlock()
		h.following.look()
	})
}

// retract forgets an order that is still reading its document.
func (h *configHost) retract(request string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.order.Request == request && h.stand.State == rollout.ReportStarted && !h.lays {
		h.end()
		h.order = rollout.Order{}
	}
}

// asked reports whether it is at that was begun last, and was not retracted. One
// that was, and is begun again, has nothing to say for its successor: that it was
// cut short would be taken for a document that does not work. mu is held.
func (h *configHost) asked(at attempt) bool {
	return h.order.Request == at.Request && h.ended == at.ended
}

// changes notes that at begins to change what is in force; false = it is not asked
// for any more.
func (h *configHost) changes(at attempt) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.asked(at) {
		return false
	}
	h.lays = true
	return true
}

// refused is an end without an attempt.
func refused(err error) rollout.Standing {
	return rollout.Standing{State: rollout.ReportRefused, Reason: err.Error()}
}

// perform does what at asks for and waits for its end.
func (h *configHost) perform(ctx context.Context, at attempt) rollout.Standing {
	t := at.Target.Config
	switch {
	case h.cfg.Settings == nil:
		return refused(errors.New("this agent takes no configuration from etcd"))
	case !h.concerns(t.Scope):
		return rollout.Standing{State: rollout.ReportDone}
	case t.Digest == "":
		return h.lift(ctx, at)
	}
	d, err := h.document(ctx, at.Order)
	if err != nil {
		return refused(err)
	}
	if at.Action == rollout.ActStage {
		return rollout.Standing{State: rollout.ReportStaged}
	}
	return h.lay(ctx, at, d)
}

// concerns reports whether a scope's document is among those of this agent.
func (h *configHost) concerns(scope string) bool {
	group, isGroup := strings.CutPrefix(scope, "group/")
	return scope == "global" || isGroup && slices.Contains(h.cfg.Groups, group)
}

// lay brings d into force, or puts back what was there before.
func (h *configHost) lay(ctx context.Context, at attempt, d stagedDocument) rollout.Standing {
	scope, digest := at.Target.Config.Scope, at.Target.Config.Digest
	if !h.changes(at) {
		return rollout.Standing{}
	}
	before, was := h.set(scope, &overlaid{Rollout: at.Rollout, Revision: d.revision, Data: d.data})
	err := h.overlay.Lay(scope, d.data, d.revision)
	if err == nil {
		err = h.await(ctx, func() (bool, error) {
			s := h.overlay.Standing(scope)
			return s.Laid == digest && s.Tried, s.Failure
		})
	}
	if err == nil {
		// The next process is to know what was published while none ran.
		h.noteOver(scope)
		return rollout.Standing{State: rollout.ReportDone}
	}
	if h.replaced(at) {
		return rollout.Standing{} // which nobody asks for any more
	}
	if was && documentDigest(before.Data) != digest {
		h.set(scope, &before)
		err = errors.Join(err, h.overlay.Resume(scope, before.Data, before.Revision, before.Over))
		if before.Yields {
			h.overlay.Yield(scope)
		}
	} else {
		h.set(scope, nil)
		h.overlay.Lift(scope)
	}
	return rollout.Standing{State: rollout.ReportFailed, Reason: err.Error(), Class: string(upgrade.BadBinary)}
}

// noteOver keeps what the document that is laid over scope's own has taken the place of.
func (h *configHost) noteOver(scope string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if d, laid := h.laid.Documents[scope]; laid {
		d.Over = h.overlay.Standing(scope).Over
		h.keep(scope, &d)
	}
}

// replaced reports whether another order has taken the place of at, or this
// process ends: what is laid over is then not at's to put back.
func (h *configHost) replaced(at attempt) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.asked(at) || h.life.Err() != nil
}

// lift goes back to the scope's own document.
func (h *configHost) lift(ctx context.Context, at attempt) rollout.Standing {
	scope := at.Target.Config.Scope
	if !h.changes(at) {
		return rollout.Standing{}
	}
	h.set(scope, nil)
	h.overlay.Lift(scope)
	left := ""
	if at.From.Config != nil {
		left = at.From.Config.Digest
	}
	err := h.await(ctx, func() (bool, error) {
		s := h.overlay.Standing(scope)
		return s.Laid == "" && s.InForce != left, nil
	})
	if err != nil {
		return rollout.Standing{State: rollout.ReportFailed, Reason: fmt.Sprintf("the document of %s in etcd did not come into force: %v", scope, err)}
	}
	return rollout.Standing{State: rollout.ReportDone}
}

// await asks after each change of the overlay until there is an answer.
func (h *configHost) await(ctx context.Context, ask func() (bool, error)) error {
	for {
		if done, err := ask(); done {
			return err
		}
		select {
		case <-h.moved:
		case <-ctx.Done():
			ring(h.moved) // which may have been another's
			return ctx.Err()
		}
	}
}

// document reads what o brings. It is named by its digest, so that whoever
// answers cannot answer with another.
func (h *configHost) document(ctx context.Context, o rollout.Order) (stagedDocument, error) {
	digest := o.Target.Config.Digest
	h.mu.Lock()
	d, known := h.staged[digest]
	h.mu.Unlock()
	if known {
		return d, nil
	}
	retry := backoff.Backoff{Max: 5 * time.Second}
	for {
		r, err := h.get(ctx, o.Document)
		switch {
		case err != nil:
			if ctx.Err() != nil || retry.Wait(ctx) != nil {
				return d, fmt.Errorf("%s was not read from etcd at %s: %w", o.Document, etcdkv.Endpoints(h.presence.client), err)
			}
			continue
		case len(r.Kvs) == 0:
			return d, fmt.Errorf("%s is not in etcd: start the rollout anew", o.Document)
		}
		d = stagedDocument{r.Kvs[0].Value, r.Kvs[0].ModRevision}
		if len(d.data) > config.DefaultMaxBytes {
			return d, fmt.Errorf("%s has %d bytes, at most %d are taken", o.Document, len(d.data), config.DefaultMaxBytes)
		}
		if found := documentDigest(d.data); found != digest {
			return d, fmt.Errorf("%s has the digest %s, the plan names %s", o.Document, found, digest)
		}
		h.mu.Lock()
		h.staged = map[string]stagedDocument{digest: d}
		h.mu.Unlock()
		return d, nil
	}
}

func (h *configHost) get(ctx context.Context, key string) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, documentTimeout)
	defer cancel()
	return h.presence.client.Get(ctx, key)
}

func documentDigest(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// standing implements rollout.Host for documents.
func (h *configHost) standing(o rollout.Order) rollout.Standing {
	t := o.Target.Config
	now := h.overlay.Standing(t.Scope)
	h.mu.Lock()
	defer h.mu.Unlock()
	var s rollout.Standing
	if h.order.Request == o.Request {
		s = h.stand
	}
	_, s.There = h.staged[t.Digest]
	s.There = s.There || t.Digest == "" || now.InForce == t.Digest
	switch {
	case !h.concerns(t.Scope):
		s.Runs = true
	case o.Action == rollout.ActRevert:
		s.Runs = o.From.Config == nil || now.Laid != o.From.Config.Digest && now.InForce != o.From.Config.Digest
	case o.Action == rollout.ActStage:
		s.Runs = s.There
	default:
		s.Runs = now.InForce == t.Digest
		if s.State == "" && now.Laid == t.Digest && !now.Tried {
			s.State = rollout.ReportStarted // by a process that was killed: it is about to come into force
		}
	}
	return s
}

// settle has what the rollout has laid over give way to what is published next,
// which where it has completed is the same.
func (h *configHost) settle(id string) {
	// All of it with mu held: what ends meanwhile would be kept without a document,
	// and what is laid meanwhile would give way.
	h.mu.Lock()
	defer h.mu.Unlock()
	for scope, d := range h.laid.Documents {
		if d.Rollout == id && !d.Yields {
			d.Yields = true
			h.keep(scope, &d)
			h.overlay.Yield(scope)
		}
	}
}

// tidy forgets what has given way, and nothing that is laid meanwhile.
func (h *configHost) tidy() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for scope, d := range h.laid.Documents {
		if d.Yields && h.overlay.Standing(scope).Laid == "" {
			h.keep(scope, nil)
		}
	}
}

// set makes d what is laid over scope, on disk, and returns what was; nil =
// nothing is.
func (h *configHost) set(scope string, d *overlaid) (before overlaid, was bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before, was = h.laid.Documents[scope]
	h.keep(scope, d)
	return before, was
}

// keep is set with mu held. A disk that does not take it loses it with the next
// start, when the rollout, if it still stands, brings it again.
func (h *configHost) keep(scope string, d *overlaid) {
	h.laid = h.laid.with(scope, d)
	if err := h.laid.write(h.path()); err != nil {
		h.log.Error("configuration of a rollout not kept on disk", "error", err)
	}
}
