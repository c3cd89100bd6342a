package rollout

import (
	"context"
	"errors"
	"fmt"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/etcdkv"
)

// Errors of the functions for pins.
var (
	// ErrNoPin: the environment has none.
	ErrNoPin = errors.New("no pin")
	// ErrPinMoved: it is not the one that was to be replaced any more.
	ErrPinMoved = errors.New("the pin was changed meanwhile")
)

// maxPins bounds how many pins are read.
const maxPins = 1000

// PinAt is a pin as it lies in etcd.
type PinAt struct {
	Pin
	// Revision is the mod revision of its key.
	Revision int64 `json:"revision"`
}

// SetPin writes p as the pin of its environment in place of the one that has
// the mod revision replaces; 0 = there is none. It returns the new revision.
// The error wraps ErrPinMoved if another one is there. With another error, such
// as a timeout, it may have been written all the same.
func SetPin(ctx context.Context, client *clientv3.Client, root string, p Pin, replaces int64) (revision int64, err error) {
	value, err := p.encode()
	if err != nil {
		return 0, err
	}
	return changePin(ctx, client, root, p.Environment, replaces, func(key string) clientv3.Op { return clientv3.OpPut(key, value) })
}

// DeletePin takes the pin of environment away that has the mod revision
// replaces; see SetPin.
func DeletePin(ctx context.Context, client *clientv3.Client, root, environment string, replaces int64) error {
	if err := etcdkv.ValidID(environment); err != nil {
		return fmt.Errorf("environment: %w", err)
	}
	_, err := changePin(ctx, client, root, environment, replaces, func(key string) clientv3.Op { return clientv3.OpDelete(key) })
	return err
}

func changePin(ctx context.Context, client *clientv3.Client, root, environment string, replaces int64, op func(key string) clientv3.Op) (int64, error) {
	k := keys{root: etcdkv.CleanRoot(root)}.pin(environment)
	res, err := client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(k), "=", replaces)).Then(op(k)).Commit()
	if err != nil {
		return 0, fmt.Errorf("pin of %s: etcd at %s: %w", environment, etcdkv.Endpoints(client), err)
	}
	if !res.Succeeded {
		return 0, fmt.Errorf("pin of %s: %w: look at it, then try again", environment, ErrPinMoved)
	}
	return res.Header.Revision, nil
}

// GetPin reads the pin of environment. The error wraps ErrNoPin if there is
// none, and ErrPin if it cannot be used; then Revision is set, for a SetPin or
// DeletePin that puts it right.
func GetPin(ctx context.Context, client *clientv3.Client, root, environment string) (PinAt, error) {
	if err := etcdkv.ValidID(environment); err != nil {
		return PinAt{}, fmt.Errorf("environment: %w", err)
	}
	res, err := client.Get(ctx, keys{root: etcdkv.CleanRoot(root)}.pin(environment))
	if err != nil {
		return PinAt{}, fmt.Errorf("pin of %s: etcd at %s: %w", environment, etcdkv.Endpoints(client), err)
	}
	if len(res.Kvs) == 0 {
		return PinAt{}, fmt.Errorf("environment %s: %w", environment, ErrNoPin)
	}
	p, err := ParsePin(environment, res.Kvs[0].Value)
	return PinAt{p, res.Kvs[0].ModRevision}, err
}

// Pins reads the pins of all environments, at most 1000, by name. Those that
// cannot be used are left out and named by the error, which wraps ErrPin.
func Pins(ctx context.Context, client *clientv3.Client, root string) ([]PinAt, error) {
	prefix := keys{root: etcdkv.CleanRoot(root)}.pin("")
	res, err := client.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithLimit(maxPins),
		clientv3.WithSort(clientv3.SortByKey, clientv3.SortAscend))
	if err != nil {
		return nil, fmt.Errorf("pins: etcd at %s: %w", etcdkv.Endpoints(client), err)
	}
	var errs []error
	all := make([]PinAt, 0, len(res.Kvs))
	for _, kv := range res.Kvs {
		p, err := ParsePin(strings.TrimPrefix(string(kv.Key), prefix), kv.Value)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all = append(all, PinAt{p, kv.ModRevision})
	}
	if res.More {
		errs = append(errs, fmt.Errorf("%w: there are more than the %d that are read", ErrPin, maxPins))
	}
	return all, errors.Join(errs...)
}
