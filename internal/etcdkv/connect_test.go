package etcdkv_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/internal/etcdtest"
)

// silent takes connections and never says a word, as a host that hangs does.
func silent(t *testing.T) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}

// TestDeadAndHangingEndpointsDoNotHoldUpTheLiveOne: two of three members may
// be away when an agent starts.
func TestDeadAndHangingEndpointsDoNotHoldUpTheLiveOne(t *testing.T) {
	t.Parallel()
	live := etcdtest.Start(t)
	c := dial(t, etcdkv.ClientConfig{Endpoints: []string{"http://127.0.0.1:1", "http://" + silent(t), live.URL()}})
	began := time.Now()
	for range 20 {
		put(t, c, "/one", "1")
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("20 writes took %v, want them at once", took)
	}
}

// TestACallWithoutADeadlineEnds: a caller may have forgotten it, and etcd may
// never answer.
func TestACallWithoutADeadlineEnds(t *testing.T) {
	t.Parallel()
	c := dial(t, etcdkv.ClientConfig{Endpoints: []string{"http://" + silent(t)}})
	etcdkv.SetCallTimeout(c, 50*time.Millisecond)
	ctx := t.Context()
	for what, call := range map[string]func() error{
		"get":    func() error { _, err := c.Get(ctx, "/one"); return err },
		"put":    func() error { _, err := c.Put(ctx, "/one", ""); return err },
		"delete": func() error { _, err := c.Delete(ctx, "/one"); return err },
		"txn":    func() error { _, err := c.Txn(ctx).Commit(); return err },
		"grant":  func() error { _, err := c.Grant(ctx, 5); return err },
		"revoke": func() error { _, err := c.Revoke(ctx, 5); return err },
		"ttl":    func() error { _, err := c.TimeToLive(ctx, 5); return err },
	} {
		if err := call(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: want the end of the deadline, got %v", what, err)
		}
	}
}

// TestReconnectsComeAtMost5SApartAndNotInStep: with gRPC's cap of 120 s a
// fleet is away long after etcd is back, and without jitter it comes at once.
// The waits are those of an agent, a sixteenth as long.
func TestReconnectsComeAtMost5SApartAndNotInStep(t *testing.T) {
	t.Parallel()
	const least, most = etcdkv.ReconnectMin / 16, etcdkv.ReconnectMax / 16
	if etcdkv.ReconnectMax > 5*time.Second || etcdkv.ReconnectMin > time.Second {
		t.Errorf("waits from %v to %v, want no more than 1 s and 5 s", etcdkv.ReconnectMin, etcdkv.ReconnectMax)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	cfg := etcdkv.ClientConfig{Endpoints: []string{"http://" + l.Addr().String()}}
	etcdkv.SetReconnect(&cfg, least, most)
	dial(t, cfg).ActiveConnection().Connect()
	var gaps []time.Duration
	last := time.Time{}
	// The least wait, growing by 1.6, reaches the cap with the eighth; without it
	// the twelfth would be seven times as long.
	for len(gaps) < 12 {
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
		if now := time.Now(); !last.IsZero() {
			gaps = append(gaps, now.Sub(last))
		}
		last = time.Now()
	}
	if longest := slices.Max(gaps); longest > most*3/2+600*time.Millisecond {
		t.Errorf("waits of %v: want none above %v and half of it", gaps, most)
	}
	if sum := gaps[10] + gaps[11]; sum < most*4/5 {
		t.Errorf("waits of %v: want them to grow to some %v", gaps, most)
	}
	even := 0
	for i, g := range gaps {
		want := min(time.Duration(float64(least)*pow(1.6, i)), most)
		if (g - want).Abs() < want/20 {
			even++
		}
	}
	if even > 8 {
		t.Errorf("waits of %v: want them jittered", gaps)
	}
}

func pow(base float64, n int) float64 {
	p := 1.0
	for range n {
		p *= base
	}
	return p
}
