package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/upgrade"
)

// orders follows the order that etcd holds for this host and passes it to
// the upgrader.
type orders struct {
	agent *Agent
	key   string

	mu       sync.Mutex
	current  Order
	revision int64 // of current; 0 for none
	err      error
}

// run watches the order until ctx ends.
func (o *orders) run(ctx context.Context) error {
	w, err := etcdkv.NewWatch(etcdkv.WatchConfig{
		Client:   o.agent.client,
		Keys:     []string{o.key},
		OnChange: o.changed,
		Logger:   o.agent.log,
	})
	if err != nil {
		return err
	}
	if err := w.Run(ctx); ctx.Err() == nil {
		return err
	}
	return nil
}

func (o *orders) changed(v etcdkv.View) {
	value, ok := v.Values[o.key]
	if !ok {
		o.set(Order{}, 0, nil)
		return
	}
	order, err := parseOrder(o.key, value.Data)
	o.set(order, value.ModRevision, err)
	if err != nil {
		o.agent.log.Warn("order refused", "error", err)
		return
	}
	if s := o.agent.upgrader.Status(); s.OrderID == order.ID {
		// Performed already, by this process or before a restart; touch has
		// it acknowledged.
		return
	}
	o.agent.upgrader.Request(upgrade.Request{ID: order.ID, By: order.By, Pin: order.Pin, Expect: order.Expect})
}

func parseOrder(key string, data []byte) (Order, error) {
	var order Order
	if err := decode(key, data, &order); err != nil {
		return Order{}, err
	}
	if order.Action != ActionUpgrade {
		return Order{}, fmt.Errorf("%s asks for %q, this agent knows %q", key, order.Action, ActionUpgrade)
	}
	if order.ID == "" {
		return Order{}, errors.New(key + " has no id, so that its result could not be told")
	}
	if err := order.Pin.Validate(); err != nil {
		return Order{}, fmt.Errorf("%s: %w", key, err)
	}
	return order, nil
}

func (o *orders) set(order Order, revision int64, err error) {
	o.mu.Lock()
	o.current, o.revision, o.err = order, revision, err
	o.mu.Unlock()
	o.agent.touch()
}

func (o *orders) lastError() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil {
		return ""
	}
	return o.err.Error()
}

// acknowledge deletes the order once the status in etcd says how it ended.
func (o *orders) acknowledge(ctx context.Context, told upgrade.Status) error {
	o.mu.Lock()
	id, revision := o.current.ID, o.revision
	o.mu.Unlock()
	if revision == 0 || id == "" || told.OrderID != id || !told.State.Terminal() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	_, err := o.agent.client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(o.key), "=", revision)).
		Then(clientv3.OpDelete(o.key)).Commit()
	if err != nil {
		return fmt.Errorf("order %s not acknowledged: %w", id, err)
	}
	return nil
}
