package health_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/perennial-go/perennial/health"
)

// A monitor asks, is told, and answers for both.
func Example() {
	m, err := health.New(health.Config{Checks: []health.Check{{
		Name:    "store",
		Timeout: time.Second,
		Func:    func(context.Context) error { return errors.New("the disk is full") },
	}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	m.Set("registration", nil) // pushed by what registers

	report := m.Evaluate(context.Background())
	fmt.Println("live:", report.Live, "ready:", report.Ready)
	for _, c := range report.Checks {
		fmt.Printf("%s: %v %q\n", c.Name, c.OK, c.Error)
	}
	// Output:
	// live: true ready: false
	// registration: true ""
	// store: false "the disk is full"
}

// Rules of the program's own come beside the reference ones.
func ExampleRule() {
	rules := append(health.DefaultRules(), health.Rule{
		Name:       "queue",
		Indicator:  "queue_length",
		Above:      1000,
		Clear:      100,
		For:        time.Minute,
		KeepFiring: 5 * time.Minute,
	})
	m, err := health.New(health.Config{Rules: rules})
	if err != nil {
		fmt.Println(err)
		return
	}
	m.Observe("queue_length", 12)
	for _, i := range m.Report().Indicators {
		fmt.Println(i.Name, i.Rule, i.Threshold)
	}
	// Output:
	// heartbeat_latency_seconds heartbeat 2
	// memory_percent memory 85
	// plugin_exceptions plugin_exceptions 0
	// queue_length queue 1000
}

// Probes read what the last checks found.
func ExampleMonitor_Handler() {
	m, err := health.New(health.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	m.Set("draining", errors.New("an upgrade is under way"))

	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequestWithContext(context.Background(), http.MethodGet, "/readyz", nil))
	fmt.Print(w.Code, " ", w.Body)
	// Output: 503 not ready: draining
}
