package faults

import (
	"os"
	"strconv"
	"testing"
	"time"
)

// lasts is how long a fault takes that is a length of time.
func lasts(t *testing.T, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	}
}

func until(t *testing.T, end time.Time) {
	t.Helper()
	lasts(t, time.Until(end))
}

// soaked is a length, of a fault that may as well be longer, as often as
// PERENNIAL_FAULTS_SOAK says.
func soaked(d time.Duration) time.Duration {
	n, err := strconv.Atoi(os.Getenv("PERENNIAL_FAULTS_SOAK"))
	if err != nil || n < 1 {
		n = 1
	}
	return d * time.Duration(n)
}
