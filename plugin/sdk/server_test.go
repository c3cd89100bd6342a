package sdk

import (
	"context"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

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
