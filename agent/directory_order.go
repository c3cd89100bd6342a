package agent

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/internal/tracing"
	"github.com/perennial-go/perennial/upgrade"
)

// Order asks the agent called id for r, whose ID it makes up, and returns the
// order that it wrote. An order that was waiting there is replaced. Errors:
// ErrNotRegistered, or what r.Validate says. What the agent does is part of the
// trace of ctx, unless r has a Traceparent.
func (d *Directory) Order(ctx context.Context, id string, r upgrade.Request) (Order, error) {
	if err := etcdkv.ValidID(id); err != nil {
		return Order{}, err
	}
	if err := r.Validate(); err != nil {
		return Order{}, err
	}
	if r.ID = rand.Text(); r.Action == "" {
		r.Action = upgrade.ActionUpgrade
	}
	if r.Traceparent == "" {
		r.Traceparent = tracing.Text(ctx)
	}
	order := Order{Schema: schema, Request: r, At: time.Now().UTC()}
	value, err := json.Marshal(order)
	if err != nil {
		return Order{}, err
	}
	res, err := d.client.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(d.keys.registry(id)), ">", 0)).
		Then(clientv3.OpPut(d.keys.order(id), string(value))).Commit()
	if err != nil {
		return Order{}, fmt.Errorf("order for %s: etcd at %s: %w", id, d.addr, err)
	}
	if !res.Succeeded {
		return Order{}, unknownAgent(id)
	}
	return order, nil
}

// absentLimit is how long Follow waits for an agent that has left the
// registry in the middle of an order.
const absentLimit = 90 * time.Second

// Follow tells the progress of an order until it has ended and returns how:
// in the Attempt of the status, or in its Answer for what is no attempt.
// Errors: ErrReplaced, ErrNotRegistered when the agent stays away for more
// than 90 s, or ctx's.
func (d *Directory) Follow(ctx context.Context, order Order, id string, progress func(upgrade.Status)) (upgrade.Status, error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var last upgrade.Status
	done := errors.New("order has ended")
	absent := time.AfterFunc(absentLimit, func() {
		stop(fmt.Errorf("%s left the registry %v ago: %w", id, absentLimit, ErrNotRegistered))
	})
	defer absent.Stop()
	w, err := etcdkv.NewWatch(etcdkv.WatchConfig{
		Client: d.client,
		Keys:   []string{d.keys.registry(id), d.keys.status(id), d.keys.order(id)},
		OnChange: func(v etcdkv.View) {
			_, alive := v.Values[d.keys.registry(id)]
			if alive {
				absent.Stop()
			} else {
				absent.Reset(absentLimit)
			}
			if _, waits := v.Values[d.keys.order(id)]; !alive && !waits {
				stop(fmt.Errorf("%s has answered the order and left the registry; its state directory tells how it ended: %w", id, ErrNotRegistered))
				return
			}
			status, err := d.follow(v, order, id)
			if err != nil {
				stop(err)
				return
			}
			if !answers(status, order.ID) {
				return
			}
			if ended, ok := overtaken(status, order); ok {
				last = ended
				progress(ended)
				stop(done)
				return
			}
			if slices.Contains(status.Earlier, order.ID) {
				stop(fmt.Errorf("the order has ended and another request has followed (%s): %w; the agent's log tells how it ended", status.OrderID, ErrReplaced))
				return
			}
			last = status
			progress(status)
			if answered(status, order.ID) {
				stop(done)
			}
		},
	})
	if err != nil {
		return last, err
	}
	_ = w.Run(ctx) // ends with ctx only, whose cause says why
	if err := context.Cause(ctx); !errors.Is(err, done) {
		return last, err
	}
	return last, nil
}

// follow reads one view of an agent.
func (d *Directory) follow(v etcdkv.View, order Order, id string) (upgrade.Status, error) {
	var status Status
	told, ok := v.Values[d.keys.status(id)]
	if ok {
		if err := decode(d.keys.status(id), told.Data, &status); err != nil {
			return upgrade.Status{}, err
		}
	}
	if value, ok := v.Values[d.keys.order(id)]; ok && !answers(status.Upgrade, order.ID) {
		var there Order
		if err := decode(d.keys.order(id), value.Data, &there); err != nil {
			return upgrade.Status{}, err
		}
		if there.ID != order.ID && order.Pin.Digest != "" && status.Upgrade.Running.Manifest == order.Pin.Digest {
			return committedBefore(status.Upgrade, order, status.Upgrade.Running), nil
		}
		if there.ID != order.ID {
			return upgrade.Status{}, fmt.Errorf("%s asked for %s at %s: %w", there.By, strings.TrimSpace(string(there.Action)+" "+there.Pin.String()), there.At.Format(time.RFC3339), ErrReplaced)
		}
		if status.refuses(value.ModRevision, told.ModRevision) {
			return upgrade.Status{}, errors.New(status.OrderError)
		}
	}
	return status.Upgrade, nil
}

// overtaken tells an order whose end was overtaken by the next one, but can be
// seen: its release is what the next one came from, or what runs.
func overtaken(s upgrade.Status, order Order) (upgrade.Status, bool) {
	if !slices.Contains(s.Earlier, order.ID) || order.Pin.Digest == "" {
		return s, false
	}
	for _, ref := range []upgrade.Ref{s.From, s.Running} {
		if ref.Manifest == order.Pin.Digest {
			return committedBefore(s, order, ref), true
		}
	}
	return s, false
}

// committedBefore is the status as it was once ref was committed for order.
func committedBefore(s upgrade.Status, order Order, ref upgrade.Ref) upgrade.Status {
	s.Attempt = upgrade.Attempt{
		Schema: schema, OrderID: order.ID, Action: order.Action, State: upgrade.Committed, To: ref,
		Reason: "committed; a newer order has followed",
	}
	return s
}

// refuses reports whether OrderError is about the order whose key has the mod
// revision order, and not about one that was there before; told is that of
// the status. Of an agent that does not say which order it is about, an error
// that stood before the order counts for nothing: it writes its status again
// when it has read the order.
func (s *Status) refuses(order, told int64) bool {
	if s.OrderError == "" {
		return false
	}
	if s.OrderErrorRevision == 0 {
		return told > order
	}
	return s.OrderErrorRevision == order
}
