package rollout

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/etcdtest"
	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/upgrade/release"
)

// rig is a fleet in an etcd of its own.
type rig struct {
	*testing.T
	server   *etcdtest.Server
	client   *clientv3.Client
	operator *Operator
	log      *waittest.Log
}

func newRig(t *testing.T) *rig {
	t.Helper()
	return newRigWith(t, etcdtest.Options{})
}

func newRigWith(t *testing.T, o etcdtest.Options) *rig {
	t.Helper()
	t.Parallel()
	s := etcdtest.StartWith(t, o)
	r := &rig{T: t, server: s, client: s.Client(t), log: &waittest.Log{}}
	r.operator = r.operate(r.client)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log:\n%s", r.log)
		}
	})
	return r
}

func (r *rig) operate(c *clientv3.Client) *Operator {
	r.Helper()
	o, err := NewOperator(OperatorConfig{Client: c})
	if err != nil {
		r.Fatal(err)
	}
	return o
}

func (r *rig) logger() *slog.Logger { return slog.New(slog.NewTextHandler(r.log, nil)) }

// pinned is a pin of a version; there is no such release.
func pinned(version string) release.Pin {
	return release.Pin{Version: version, Digest: "sha256:" + strings.Repeat("ab", 32)}
}

// planOf brings a version to all agents, one after the other.
func planOf(version string) Plan {
	return Plan{
		Strategy: Rolling, Target: Target{Release: pinned(version), Program: "agent"}, By: "alice", Reason: "to test",
		Stages: []Stage{{Name: "all", BasisPoints: 10000, MaxUnavailable: Amount{Agents: 1}}},
	}
}

func (r *rig) start(p Plan, opts ...StartOptions) Plan {
	r.Helper()
	p, err := r.operator.Start(r.Context(), p, append(opts, StartOptions{})[0])
	if err != nil {
		r.Fatal(err)
	}
	return p
}

func (r *rig) status() View {
	r.Helper()
	v, err := r.operator.Status(r.Context())
	if err != nil {
		r.Fatal(err)
	}
	return v
}

// history is whole.
func (r *rig) history() []Past {
	r.Helper()
	all, err := r.operator.History(r.Context(), HistoryOptions{})
	if err != nil {
		r.Fatal(err)
	}
	return all
}

// events of a rollout, in their order.
func events(p Past) string {
	var all []string
	for _, r := range p.Records {
		all = append(all, string(r.Event))
	}
	return strings.Join(all, " ")
}

// background runs run until the returned function is called, or the test ends.
func (r *rig) background(run func(context.Context) error) (stop func()) {
	r.Helper()
	return waittest.Background(r.T, run)
}
