package election_test

import (
	"context"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/election"
	"github.com/perennial-go/perennial/internal/etcdtest"
	"github.com/perennial-go/perennial/internal/waittest"
)

// TestCandidateThatIsDeniedWhatItIsToDoStandsBack: it would have the office again before
// those who have the rights hear that it is vacant.
func TestCandidateThatIsDeniedWhatItIsToDoStandsBack(t *testing.T) {
	const ttl = time.Second
	terms := make(chan time.Time, 1)
	e, err := election.New(election.Config{
		Client: etcdtest.Start(t).Client(t), Key: "/leader", TTL: ttl, Office: "test",
		Value: func() (string, error) { return "a", nil }, Must: []clientv3.Op{clientv3.OpPut("/x", "")},
		Term: func(ctx context.Context, _ int64) error {
			select {
			case terms <- time.Now():
			case <-ctx.Done():
			}
			return rpctypes.ErrPermissionDenied
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	waittest.Background(t, e.Run)
	first := waittest.Next(t, "it is elected", terms)
	if again := waittest.Next(t, "it is elected again", terms).Sub(first); again < ttl {
		t.Errorf("it was elected again after %v", again)
	}
}
