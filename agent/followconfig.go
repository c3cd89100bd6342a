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
		if err := h.overlay.Lay(scope, d.Data, d.Revision); err != nil {
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
	before, ended := h.ended, make(chan struct{})
	h.order, h.stand, h.end, h.ended = o, rollout.Standing{State: rollout.ReportStarted}, cancel, ended
	h.lays = false
	h.tasks.Go(func() {
		defer close(ended)
		defer cancel()
		if before != nil {
			<-before
		}
		s := h.perform(ctx, o)
		h.mu.Lock()
		if h.order.Request == o.Request && h.life.Err() == nil { // else the next process finds out
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

// changes notes that o begins to change what is in force; false = it is not asked
// for any more.
func (h *configHost) changes(o rollout.Order) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lays = h.order.Request == o.Request
	return h.lays
}

// refused is an end without an attempt.
func refused(err error) rollout.Standing {
	return rollout.Standing{State: rollout.ReportRefused, Reason: err.Error()}
}

// perform does what o asks for and waits for its end.
func (h *configHost) perform(ctx context.Context, o rollout.Order) rollout.Standing {
	t := o.Target.Config
	switch {
	case h.cfg.Settings == nil:
		return refused(errors.New("this agent takes no configuration from etcd"))
	case !h.concerns(t.Scope):
		return rollout.Standing{State: rollout.ReportDone}
	case t.Digest == "":
		return h.lift(ctx, o)
	}
	d, err := h.document(ctx, o)
	if err != nil {
		return refused(err)
	}
	if o.Action == rollout.ActStage {
		return rollout.Standing{State: rollout.ReportStaged}
	}
	return h.lay(ctx, o, d)
}

// concerns reports whether a scope's document is among those of this agent.
func (h *configHost) concerns(scope string) bool {
	group, isGroup := strings.CutPrefix(scope, "group/")
	return scope == "global" || isGroup && slices.Contains(h.cfg.Groups, group)
}

// lay brings d into force, or puts back what was there before.
func (h *configHost) lay(ctx context.Context, o rollout.Order, d stagedDocument) rollout.Standing {
	scope, digest := o.Target.Config.Scope, o.Target.Config.Digest
	if !h.changes(o) {
		return rollout.Standing{}
	}
	before, was := h.set(scope, &overlaid{Rollout: o.Rollout, Revision: d.revision, Data: d.data})
	err := h.overlay.Lay(scope, d.data, d.revision)
	if err == nil {
		err = h.await(ctx, func() (bool, error) {
			s := h.overlay.Standing(scope)
			return s.Laid == digest && s.Tried, s.Failure
		})
	}
	if err == nil {
		return rollout.Standing{State: rollout.ReportDone}
	}
	if h.replaced(o) {
		return rollout.Standing{} // which nobody asks for any more
	}
	if was && documentDigest(before.Data) != digest {
		h.set(scope, &before)
		err = errors.Join(err, h.overlay.Lay(scope, before.Data, before.Revision))
	} else {
		h.set(scope, nil)
		h.overlay.Lift(scope)
	}
	return rollout.Standing{State: rollout.ReportFailed, Reason: err.Error(), Class: string(upgrade.BadBinary)}
}

// replaced reports whether another order has taken the place of o, or this
// process ends: what is laid over is then not o's to put back.
func (h *configHost) replaced(o rollout.Order) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.order.Request != o.Request || h.life.Err() != nil
}

// lift goes back to the scope's own document.
func (h *configHost) lift(ctx context.Context, o rollout.Order) rollout.Standing {
	scope := o.Target.Config.Scope
	if !h.changes(o) {
		return rollout.Standing{}
	}
	h.set(scope, nil)
	h.overlay.Lift(scope)
	left := ""
	if o.From.Config != nil {
		left = o.From.Config.Digest
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
	}
	return s
}

// settle has what the rollout has laid over give way to what is published next,
// which where it has completed is the same.
func (h *configHost) settle(id string) {
	h.mu.Lock()
	var over []string
	for scope, d := range h.laid.Documents {
		if d.Rollout == id && !d.Yields {
			over = append(over, scope)
		}
	}
	h.mu.Unlock()
	for _, scope := range over {
		h.mu.Lock()
		d := h.laid.Documents[scope]
		h.mu.Unlock()
		d.Yields = true
		h.set(scope, &d)
		h.overlay.Yield(scope)
	}
}

// tidy forgets what has given way.
func (h *configHost) tidy() {
	h.mu.Lock()
	var gone []string
	for scope, d := range h.laid.Documents {
		if d.Yields && h.overlay.Standing(scope).Laid == "" {
			gone = append(gone, scope)
		}
	}
	h.mu.Unlock()
	for _, scope := range gone {
		h.set(scope, nil)
	}
}

// set makes d what is laid over scope, on disk, and returns what was; nil =
// nothing is. A disk that does not take it loses it with the next start, when
// the rollout, if it still stands, brings it again.
func (h *configHost) set(scope string, d *overlaid) (before overlaid, was bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before, was = h.laid.Documents[scope]
	h.laid = h.laid.with(scope, d)
	if err := h.laid.write(h.path()); err != nil {
		h.log.Error("configuration of a rollout not kept on disk", "error", err)
	}
	return before, was
}
