package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

const (
	// flushTimeout bounds what the end of a process waits for its collector.
	flushTimeout = time.Second
	// exportTrouble is the least time between two lines about a collector that
	// does not take spans.
	exportTrouble = time.Minute
)

// traceFlags say where spans go.
type traceFlags struct{ endpoint string }

func (t *traceFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&t.endpoint, "otlp-endpoint", "", "`URL` of an OpenTelemetry collector that takes traces by OTLP over gRPC, such as http://127.0.0.1:4317; default OTEL_EXPORTER_OTLP_ENDPOINT, and no traces without either. The other OTEL_ variables count too")
}

// spans export what a process traces. Nil exports nothing.
type spans struct {
	provider *sdktrace.TracerProvider
	log      *slog.Logger
}

// open connects to nothing yet: a collector that is away is tried again in the
// background, and what does not fit into the queue meanwhile is dropped.
func (t *traceFlags) open(ctx context.Context, log *slog.Logger, instance string) (*spans, error) {
	var options []otlptracegrpc.Option
	switch {
	case t.endpoint != "":
		u, err := url.Parse(t.endpoint)
		if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			return nil, usagef("--otlp-endpoint: want a URL such as http://127.0.0.1:4317, or https:// for TLS, found %q", t.endpoint)
		}
		options = append(options, otlptracegrpc.WithEndpointURL(t.endpoint))
	case !wantedByEnvironment(log):
		return nil, nil //nolint:nilnil // nobody asked for them
	}
	exporter, err := otlptracegrpc.New(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("traces: %w", err)
	}
	// What the environment says comes last, and so goes before.
	what, err := resource.New(ctx, resource.WithAttributes(
		attribute.String("service.name", "agentd"), attribute.String("service.version", version),
		attribute.String("service.instance.id", instance), attribute.Int("process.pid", os.Getpid()),
	), resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil {
		log.Warn("not all that the environment says about traces can be used", "error", err)
	}
	otel.SetErrorHandler(&exportErrors{log: log})
	return &spans{sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(what)), log}, nil
}

// wantedByEnvironment reads the variables that every program with OpenTelemetry
// has. What is wrong there is no reason for an agent not to start.
func wantedByEnvironment(log *slog.Logger) bool {
	endpoint := cmp.Or(os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT"))
	if endpoint == "" || os.Getenv("OTEL_SDK_DISABLED") == "true" || os.Getenv("OTEL_TRACES_EXPORTER") == "none" {
		return false
	}
	protocol := cmp.Or(os.Getenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"), os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL"), "grpc")
	if protocol != "grpc" {
		log.Warn("no traces are exported: OTEL_EXPORTER_OTLP_PROTOCOL wants another protocol than grpc; --otlp-endpoint goes before it", "name", protocol)
		return false
	}
	return true
}

// tracerProvider is nil without an exporter.
func (s *spans) tracerProvider() trace.TracerProvider {
	if s == nil {
		return nil
	}
	return s.provider
}

// command begins the trace of a command, if it is exported.
func (s *spans) command(ctx context.Context, name string) (context.Context, func(error)) {
	if s == nil {
		return ctx, func(error) {}
	}
	ctx, span := s.provider.Tracer("agentd").Start(ctx, name, trace.WithSpanKind(trace.SpanKindClient))
	return ctx, func(err error) {
		if err != nil {
			span.RecordError(err)
			span.SetStatus(codes.Error, err.Error())
		}
		span.End()
	}
}

// close exports what is left, as far as that does not take long.
func (s *spans) close() {
	if s == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	if err := s.provider.Shutdown(ctx); err != nil {
		s.log.Warn("the last spans were not exported", "error", err)
	}
}

// traceparent is the trace that ctx is part of, in text; empty for none.
func traceparent(ctx context.Context) string {
	text := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, text)
	return text["traceparent"]
}

// exportErrors logs what keeps spans from being exported, now and then: a
// collector may be away for long.
type exportErrors struct {
	log *slog.Logger

	mu   sync.Mutex
	told time.Time
}

// Handle implements otel.ErrorHandler.
func (e *exportErrors) Handle(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if time.Since(e.told) < exportTrouble {
		return
	}
	e.told = time.Now()
	e.log.Warn("spans are not exported", "error", err)
}
