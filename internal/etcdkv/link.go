package etcdkv

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
)

// link knows how a client's connections fare, which gRPC tells nobody: a call
// that waits for one ends with its deadline and no word of the reason.
type link struct {
	metrics *Metrics
	user    string        // that etcd knows the client by, as far as that is known
	limit   time.Duration // of a call whose caller sets none

	mu       sync.Mutex
	open     int
	ended    int              // connections that have ended and were not replaced
	failures map[string]error // by address, since a connection stood last
}

// maxFailures bounds what is remembered of addresses that a name resolves to.
const maxFailures = 8

func newLink(m *Metrics) *link {
	return &link{metrics: m, limit: 30 * time.Second, failures: map[string]error{}}
}

// linkOf returns what Dial gave c; one that knows nothing for another client.
func linkOf(c *clientv3.Client) *link {
	if kv, ok := c.KV.(*explainedKV); ok {
		return kv.link
	}
	return newLink(NewMetrics())
}

// LastFailure says why c, a client of Dial's, has no connection to any
// endpoint; nil where it has one, or where nothing has failed yet.
func LastFailure(c *clientv3.Client) error { return linkOf(c).failure() }

// dial is what gRPC connects with.
func (l *link) dial(ctx context.Context, address string) (net.Conn, error) {
	network, target := "tcp", address
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, target = "unix", strings.TrimPrefix(path, "//")
	}
	l.metrics.attempts.Inc()
	d := net.Dialer{Timeout: tcpTimeout}
	conn, err := d.DialContext(ctx, network, target)
	if err != nil {
		l.failed(address, "dial", err)
	}
	return conn, err
}

// failed records why there is no connection to an address.
func (l *link) failed(address, stage string, err error) {
	l.metrics.failures.WithLabelValues(stage).Inc()
	l.mu.Lock()
	defer l.mu.Unlock()
	_, known := l.failures[address]
	if known && errors.Is(err, net.ErrClosed) {
		return // this side gave up, which tells less than what is known
	}
	if known || len(l.failures) < maxFailures {
		l.failures[address] = err
	}
}

// stands records that etcd has spoken on a connection.
func (l *link) stands() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.failures)
}

func (l *link) failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open > 0 || len(l.failures) == 0 {
		return nil
	}
	var all []string
	for address, err := range l.failures {
		text := err.Error()
		if !strings.Contains(text, address) {
			text = address + ": " + text
		}
		all = append(all, text)
	}
	slices.Sort(all)
	return fmt.Errorf("no connection to etcd: %s", strings.Join(all, "; "))
}

// explain adds why there is no connection to the error of a call that failed
// for the lack of one.
func (l *link) explain(err error) error {
	if err == nil {
		return nil
	}
	code := status.Code(err)
	if !errors.Is(err, context.DeadlineExceeded) && code != codes.DeadlineExceeded && code != codes.Unavailable {
		return err
	}
	if failure := l.failure(); failure != nil {
		return fmt.Errorf("%w: %w", err, failure)
	}
	return err
}

// TagConn, HandleConn, TagRPC and HandleRPC implement stats.Handler.
func (l *link) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

func (l *link) HandleConn(_ context.Context, s stats.ConnStats) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch s.(type) {
	case *stats.ConnBegin:
		l.open++
		l.metrics.open.Inc()
		if l.ended > 0 {
			l.ended--
			l.metrics.again.Inc()
		}
	case *stats.ConnEnd:
		l.open--
		l.ended++
		l.metrics.open.Dec()
		l.metrics.lost.Inc()
	}
}

type methodKey struct{}

func (l *link) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	// /etcdserverpb.KV/Range is shown as KV/Range.
	_, method, _ := strings.Cut(info.FullMethodName, ".")
	return context.WithValue(ctx, methodKey{}, method)
}

func (l *link) HandleRPC(ctx context.Context, s stats.RPCStats) {
	switch s := s.(type) {
	case *stats.OutPayload:
		l.metrics.sent.Add(float64(s.WireLength))
	case *stats.InPayload:
		l.metrics.received.Add(float64(s.WireLength))
	case *stats.End:
		method, _ := ctx.Value(methodKey{}).(string)
		l.metrics.request(method, status.Code(s.Error), s.EndTime.Sub(s.BeginTime))
	}
}

func (l *link) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, l.limit)
}
