package rollout

import (
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// rightsTTLs is for how many TTLs of its election a controller stays that etcd does
// not permit what is to be done. Meanwhile that shows in the status.
const rightsTTLs = 3

// rights tells when a controller is to leave the office to one that may do more.
type rights struct {
	since time.Time // of the first denial in a row; zero = it was no denial
}

// lost returns why to resign, nil = not. err is what the newest look came to.
func (r *rights) lost(err error, ttl time.Duration, now time.Time) error {
	switch {
	case !errors.Is(err, rpctypes.ErrPermissionDenied):
		r.since = time.Time{}
	case r.since.IsZero():
		r.since = now
	case now.Sub(r.since) >= rightsTTLs*ttl:
		return fmt.Errorf("another candidate may have the rights that this one lacks: %w", err)
	}
	return nil
}
