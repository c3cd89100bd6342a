package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/upgrade"
)

// orderLimit bounds the id, by, program, asked, expect and reason of a request, in bytes
// each.
const orderLimit = 1 << 10

// orders follows the order that etcd holds for this host and passes it to
// the upgrader.
type orders struct {
	agent *Agent
	key   string

	mu       sync.Mutex
	id       string // of the order in etcd; empty for none that can be read
	revision int64  // of its key
	err      error
}

func newOrders(a *Agent) *orders {
	return &orders{agent: a, key: a.presence.registry.keys.order(a.cfg.ID)}
}

// run watches the order until ctx ends, whose error it then returns.
func (o *orders) run(ctx context.Context) error {
	w, err := etcdkv.NewWatch(etcdkv.WatchConfig{
		Client:   o.agent.presence.client,
		Keys:     []string{o.key},
		OnChange: o.changed,
		Logger:   o.agent.log,
	})
	if err != nil {
		return err
	}
	return w.Run(ctx)
}

func (o *orders) changed(v etcdkv.View) {
	value, ok := v.Values[o.key]
	if !ok {
		o.set("", 0, nil)
		return
	}
	order, err := parseOrder(o.key, value.Data)
	o.set(order.ID, value.ModRevision, err)
	if err != nil {
		o.agent.log.Warn("order refused", "error", err)
		return
	}
	if s := o.agent.upgrader.Status(); answers(s, order.ID) {
		// Performed already, by this process or before a restart; touch has
		// it acknowledged.
		return
	}
	order.Remote = true // whoever can write to etcd has asked
	o.agent.following.releases.displaced()
	o.agent.upgrader.Request(order.Request)
}

// open reports whether there is an order in etcd that has not been answered.
func (o *orders) open() bool {
	o.mu.Lock()
	id := o.id
	o.mu.Unlock()
	return id != "" && !answered(o.agent.upgrader.Status(), id)
}

// answers reports whether s tells what became of the order called id, or is
// about to.
func answers(s upgrade.Status, id string) bool {
	return s.OrderID == id || (s.Answer != nil && s.Answer.OrderID == id) || slices.Contains(s.Earlier, id)
}

// answered reports whether s tells how the order called id ended.
func answered(s upgrade.Status, id string) bool {
	return (s.Answer != nil && s.Answer.OrderID == id) || (s.OrderID == id && s.State.Terminal()) || slices.Contains(s.Earlier, id)
}

func parseOrder(key string, data []byte) (Order, error) {
	var order Order
	if err := decode(key, data, &order); err != nil {
		return Order{}, err
	}
	if order.ID == "" {
		return Order{}, errors.New(key + " has no id, so that its result could not be told")
	}
	if order.Action == "" {
		return Order{}, errors.New(key + " has no action")
	}
	if err := checkRequest(order.Request); err != nil {
		return Order{}, fmt.Errorf("%s %w", key, err)
	}
	return order, nil
}

// checkRequest says what keeps r from being performed by any agent.
func checkRequest(r upgrade.Request) error {
	if n := max(len(r.ID), len(r.By), len(r.Program), len(r.Asked), len(r.Expect), len(r.Reason)); n > orderLimit {
		// They are kept in the journal and travel to the successor.
		return fmt.Errorf("has %d bytes in its id, by, program, asked, expect or reason, at most %d are taken: ask again", n, orderLimit)
	}
	if _, cut := jsonPrefix(r.ID, nameLimit); cut {
		return fmt.Errorf("has an id of %d bytes, at most %d are taken, so that a status tells it whole: ask again under a shorter one", len(r.ID), nameLimit)
	}
	if err := r.Validate(); err != nil {
		return fmt.Errorf("cannot be performed: %w", err)
	}
	return nil
}

func (o *orders) set(id string, revision int64, err error) {
	o.mu.Lock()
	o.id, o.revision, o.err = id, revision, err
	o.mu.Unlock()
	o.agent.following.look()
	o.agent.touch()
}

// lastError says why the order in etcd could not be read, and the mod revision
// of its key; "" and 0 if there is none or it could.
func (o *orders) lastError() (text string, revision int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil {
		return "", 0
	}
	return o.err.Error(), o.revision
}

// acknowledge deletes the order once the status in etcd says how it ended.
func (o *orders) acknowledge(ctx context.Context, told upgrade.Status) error {
	o.mu.Lock()
	id, revision := o.id, o.revision
	o.mu.Unlock()
	if id == "" || !answered(told, id) {
		return nil
	}
	if err := o.agent.presence.registry.acknowledge(ctx, o.key, revision); err != nil {
		return fmt.Errorf("order %s not acknowledged: %w", id, err)
	}
	return nil
}
