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

// A figure of the program's own, and its alert.
func ExampleIndicator() {
	jobs := make(chan int, 100)
	m, err := health.New(health.Config{Indicators: []health.Indicator{{
		Name: "queue_length", Unit: "jobs",
		Measure: func(context.Context) (health.Sample, error) { return health.Sample{Value: float64(len(jobs))}, nil },
		Rules:   []health.Rule{{Above: 80, For: time.Minute, KeepFiring: 5 * time.Minute}},
	}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, a := range m.Alerts() {
		if a.Indicator == "queue_length" {
			fmt.Println(a.Name, a.State, "above", a.Threshold, a.Unit)
		}
	}
	// Output: queue_length unknown above 80 jobs
}

// Rules of the program's own come beside the reference ones.
func ExampleRule() {
	rules := append(health.DefaultRules(), health.Rule{
		Name:       "memory_critical",
		Indicator:  health.MemoryPercent,
		Above:      95,
		KeepFiring: 5 * time.Minute,
		Severity:   health.Critical,
	})
	m, err := health.New(health.Config{Rules: rules})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, r := range m.Rules() {
		if r.Indicator == health.MemoryPercent {
			fmt.Println(r.Name, r.Above, r.Every, r.Severity)
		}
	}
	// Output:
	// memory 85 10s warning
	// memory_critical 95 10s critical
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
