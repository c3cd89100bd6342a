package health

import (
	"testing"
	"time"
)

// BenchmarkIndicators is one measurement of each built-in indicator. The metric
// is what all of them take of a core at their default intervals, without the
// wake-ups between them.
func BenchmarkIndicators(b *testing.B) {
	m, err := New(Config{DiskPath: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	var share float64
	for _, s := range m.series {
		if s.Measure == nil {
			continue
		}
		b.Run(s.Name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = s.Measure(b.Context())
			}
			share += float64(b.Elapsed()) / float64(b.N) / float64(s.Every)
		})
	}
	b.Run("all", func(b *testing.B) {
		for b.Loop() {
			m.tick(b.Context(), time.Now())
		}
		b.ReportMetric(100*share, "%core")
	})
}
