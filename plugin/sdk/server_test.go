package sdk

import (
	"context"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/perennial-go/perennial/internal/tracing"
	"github.com/perennial-go/perennial/plugin/pluginpb"
)

// starts counts calls of Start.
type starts struct {
	Func
	n int
}

func (s *starts) Start(context.Context, []byte) error { s.n++; return nil }

func TestPluginIsStartedOnceWhateverItsHostAsks(t *testing.T) {
	impl := &starts{}
	s := newServer(Config{Name: "probe", Version: "1.0.0"}, impl)
	if _, err := s.Start(t.Context(), &pluginpb.StartRequest{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Start(t.Context(), &pluginpb.StartRequest{}); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("again: want %s, found %v", codes.FailedPrecondition, err)
	}
	if impl.n != 1 {
		t.Errorf("Start was called %d times", impl.n)
	}
}

func TestWhatAHostSaysOfATraceIsTakenIfItIsOne(t *testing.T) {
	const good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for name, c := range map[string]struct {
		told []string
		want string
	}{
		"one":       {[]string{good}, good},
		"none":      {nil, ""},
		"two":       {[]string{good, good}, ""},
		"something": {[]string{"yes"}, ""},
	} {
		ctx := metadata.NewIncomingContext(t.Context(), metadata.MD{tracing.Header: c.told})
		if got := tracing.Text(traced(ctx)); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
