package agent

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"

	"github.com/perennial-go/perennial/health"
)

const (
	// maxRequestSeries bounds the pairs of method and code that are told apart.
	// Both can be a stranger's choice.
	maxRequestSeries = 100
	// otherLabel is what the rest is folded into.
	otherLabel = "other"
	// grpcMethod stands for all methods of gRPC servers.
	grpcMethod = "grpc"
	// p95Over is the time over which the 95th percentile is taken, p95Every how
	// often.
	p95Over  = time.Minute
	p95Every = 10 * time.Second
)

// requestBounds are the upper bounds of the buckets, in seconds: that of the
// alert is among them, so that what it says of a percentile is exact.
func requestBounds() []float64 {
	return []float64{.001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
}

// requests measures what the program's servers answer.
type requests struct {
	metric *prometheus.HistogramVec
	bounds []float64
	recent window

	series atomic.Pointer[map[requestKind]prometheus.Observer] // replaced, never changed
	mu     sync.Mutex                                          // of who replaces it
}

// requestKind is what requests are told apart by; code is gRPC's where method is
// grpcMethod.
type requestKind struct {
	method string
	code   int
}

func newRequests() *requests {
	r := &requests{bounds: requestBounds()}
	r.recent.counts = make([]atomic.Uint64, len(r.bounds)+1)
	r.metric = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "perennial_request_duration_seconds",
		Help:    "How long requests to the program's servers took: until the handler returned or the first Flush. Hijacked connections and gRPC streams are left out.",
		Buckets: r.bounds,
	}, []string{"method", "code"})
	r.series.Store(&map[requestKind]prometheus.Observer{})
	return r
}

// http is told of each request to an HTTP server.
func (r *requests) http(req *http.Request, code int, took time.Duration) {
	method := req.Method
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch,
		http.MethodDelete, http.MethodConnect, http.MethodOptions, http.MethodTrace:
	default:
		method = otherLabel
	}
	r.observe(requestKind{method, code}, took)
}

// grpc is told of each call of a gRPC server.
func (r *requests) grpc(code codes.Code, took time.Duration) {
	r.observe(requestKind{grpcMethod, int(code)}, took)
}

func (r *requests) observe(k requestKind, took time.Duration) {
	o, ok := (*r.series.Load())[k]
	if !ok {
		o = r.observer(k)
	}
	seconds := took.Seconds()
	o.Observe(seconds)
	i, _ := slices.BinarySearch(r.bounds, seconds)
	r.recent.counts[i].Add(1)
}

// observer makes the series of what has not been seen before, or finds the one
// that it is folded into.
func (r *requests) observer(k requestKind) prometheus.Observer {
	r.mu.Lock()
	defer r.mu.Unlock()
	known := *r.series.Load()
	label := k.label()
	if o, ok := known[k]; ok {
		return o
	}
	if label == otherLabel || len(known) >= maxRequestSeries {
		// Not in the map, which would grow with what strangers think of.
		return r.metric.WithLabelValues(k.method, otherLabel)
	}
	o := r.metric.WithLabelValues(k.method, label)
	next := maps.Clone(known)
	next[k] = o
	r.series.Store(&next)
	return o
}

// label is the code as a label.
func (k requestKind) label() string {
	switch {
	case k.method == grpcMethod && k.code >= 0 && k.code <= int(codes.Unauthenticated):
		return codes.Code(k.code).String() //nolint:gosec // bounded above
	case k.method != grpcMethod && http.StatusText(k.code) != "":
		return strconv.Itoa(k.code)
	default:
		return otherLabel
	}
}

// window knows the distribution of the last minute.
type window struct {
	counts []atomic.Uint64 // by bucket, from the beginning on

	mu   sync.Mutex
	past []counted // the oldest first
}

// counted is the distribution up to a time.
type counted struct {
	at     time.Time
	counts []uint64
}

// p95 is the 95th percentile over the last minute, as histogram_quantile has it;
// it is 0 where there was no request. It is asked for every p95Every.
func (r *requests) p95(context.Context) (health.Sample, error) {
	since, counts := r.recent.latest(time.Now())
	var n uint64
	for _, c := range counts {
		n += c
	}
	return health.Sample{
		Value: quantile(0.95, r.bounds, counts),
		Basis: fmt.Sprintf("of %d requests in %v", n, since.Round(time.Second)),
	}, nil
}

// indicator is the percentile.
func (r *requests) indicator() health.Indicator {
	return health.Indicator{Name: health.RequestP95, Every: p95Every, Measure: r.p95}
}

// latest returns what was counted since p95Over ago, or since the first call.
func (w *window) latest(now time.Time) (since time.Duration, counts []uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := counted{at: now, counts: make([]uint64, len(w.counts))}
	for i := range w.counts {
		all.counts[i] = w.counts[i].Load()
	}
	// The newest of those that are old enough is what is compared with; a look
	// that comes a little early must not wait for the next.
	for len(w.past) > 1 && now.Sub(w.past[1].at) >= p95Over-p95Every/2 {
		w.past = slices.Delete(w.past, 0, 1)
	}
	counts = slices.Clone(all.counts)
	if len(w.past) > 0 {
		since = now.Sub(w.past[0].at)
		for i, n := range w.past[0].counts {
			counts[i] -= n
		}
	}
	if len(w.past) == 0 || now.Sub(w.past[len(w.past)-1].at) >= p95Every/2 {
		w.past = append(w.past, all)
	}
	return since, counts
}

// quantile interpolates within the bucket of the one that is asked for, and has
// nothing above the last bound.
func quantile(q float64, bounds []float64, counts []uint64) float64 {
	var n uint64
	for _, c := range counts {
		n += c
	}
	if n == 0 {
		return 0
	}
	rank, below, lower := q*float64(n), 0.0, 0.0
	for i, bound := range bounds {
		within := float64(counts[i])
		if below+within >= rank {
			return lower + (bound-lower)*(rank-below)/within
		}
		below, lower = below+within, bound
	}
	return lower
}
