package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	prom "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/upgrade/rollout"
)

// metricsFlag says where a controller that is no agent shows its metrics.
type metricsFlag struct{ address string }

func (m *metricsFlag) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&m.address, "metrics", "", "`address` for Prometheus, such as 127.0.0.1:9464, where whoever reaches it may read of rollouts and drift; none without it")
}

// serve shows metrics until end is called.
func (m *metricsFlag) serve(ctx context.Context, metrics *rollout.Metrics) (end func(), err error) {
	if m.address == "" {
		return func() {}, nil
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", m.address)
	if err != nil {
		return nil, fmt.Errorf("--metrics: %w: give another address", err)
	}
	registry := prom.NewRegistry()
	registry.MustRegister(metrics, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(l) }) // it ends with Close
	return func() {
		_ = server.Close()
		serving.Wait()
	}, nil
}
