package health

import (
	"errors"
	"strings"
	"testing"
)

func TestUnmeasuredMemoryIsUnknownAndSaysWhy(t *testing.T) {
	m, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	m.measure = func() (MemoryUse, error) { return MemoryUse{}, errors.ErrUnsupported }
	m.sampleMemory()
	for _, i := range m.Report().Indicators {
		if i.Name == MemoryPercent && (i.State != Unknown || !strings.HasPrefix(i.Basis, "not measured: ")) {
			t.Errorf("%+v", i)
		}
	}
}
