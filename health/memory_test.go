package health

import (
	"errors"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/internal/memory"
)

func TestUnmeasuredMemoryIsUnknownAndSaysWhy(t *testing.T) {
	m, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	m.measure = func() (memory.Used, error) { return memory.Used{}, errors.ErrUnsupported }
	m.sampleMemory()
	for _, i := range m.Report().Indicators {
		if i.Name == MemoryPercent && (i.State != Unknown || !strings.HasPrefix(i.Basis, "not measured: ")) {
			t.Errorf("%+v", i)
		}
	}
}
