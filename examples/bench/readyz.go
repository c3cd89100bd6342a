package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/perennial-go/perennial/health"
)

const (
	readyTarget = 1.0 // ms
	readyChecks = 200
)

// measureReady asks a Monitor whether it is ready, and a handler that knows no
// more than to say so, in turns.
func measureReady(ctx context.Context, b *bench) (f figure, err error) {
	var cfg health.Config
	for i := range readyChecks {
		cfg.Checks = append(cfg.Checks, health.Check{
			Name: fmt.Sprintf("plugin-%03d", i), Func: func(context.Context) error { return nil },
		})
	}
	monitor, err := health.New(cfg)
	if err != nil {
		return figure{}, err
	}
	running, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- monitor.Run(running) }()
	defer func() {
		cancel()
		err = errors.Join(err, <-ended)
	}()
	if err := until(ctx, "an answer of every check", time.Minute, func() bool { return monitor.Report().Ready }); err != nil {
		return figure{}, err
	}
	ourURL, stop, err := serve(monitor.Handler())
	if err != nil {
		return figure{}, err
	}
	defer stop()
	bareURL, stopBare, err := serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "ok\n") // a client that has gone needs no answer
	}))
	if err != nil {
		return figure{}, err
	}
	defer stopBare()
	ours := &series{what: fmt.Sprintf("/readyz of %d checks", readyChecks), unit: "ms"}
	verbose := &series{what: "/readyz?verbose of the same", unit: "ms"}
	bare := &series{what: "a bare handler of net/http", unit: "ms"}
	asked := []struct {
		url  string
		took *series
	}{{ourURL + "/readyz", ours}, {bareURL, bare}, {ourURL + "/readyz?verbose", verbose}}
	client := &http.Client{Timeout: clientLimit}
	defer client.CloseIdleConnections()
	for range b.times(10_000, 200) {
		for _, a := range asked {
			began := time.Now()
			if _, err := fetch(ctx, client, a.url); err != nil {
				return figure{}, err
			}
			a.took.addTime(time.Since(began))
		}
	}
	return figure{
		Measures: measures(ours, verbose, bare),
		Verdicts: []verdict{
			within("/readyz, median", "ms", ours.median(), readyTarget),
			{What: "/readyz, p99", Unit: "ms", Value: ours.quantile(0.99)},
			{What: "bare handler, p99", Unit: "ms", Value: bare.quantile(0.99)},
			{What: "/readyz / bare handler, medians", Unit: "×", Value: ours.median() / bare.median()},
		},
		Notes: []string{"one client after the other on a connection that stays, over loopback; client and server are one process"},
	}, nil
}

// fetch returns the answer to a GET, which must be 200.
func fetch(ctx context.Context, client *http.Client, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }() // read to its end
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: want 200, found %s: %.200s", url, response.Status, body)
	}
	return body, err
}
