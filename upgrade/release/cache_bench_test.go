package release

import (
	"fmt"
	"testing"
)

// BenchmarkIfNotPresentCheck is what an agent does to find out whether it
// runs what it should: the kept index and its signature are read, verified,
// parsed, compared with what the host has seen (trust.json), and a version is
// resolved to its pin. The source is asked for nothing.
func BenchmarkIfNotPresentCheck(b *testing.B) {
	for _, releases := range []int{10, 100, 1000} {
		b.Run(fmt.Sprintf("releases=%d", releases), func(b *testing.B) {
			f := newFixture(b)
			f.publish("1.0.0")
			x := f.index()
			for i := 1; i < releases; i++ {
				e := x.Releases[0]
				e.Version = fmt.Sprintf("1.%d.0", i)
				x.Releases = append(x.Releases, e)
			}
			x.Sequence++
			f.signIndex(1, x)
			source := &countingSource{Source: f.source()}
			cache, err := NewCache(CacheConfig{Dir: b.TempDir(), Source: source, Pull: PullIfNotPresent})
			if err != nil {
				b.Fatal(err)
			}
			c := f.clientOf(cache)
			version := fmt.Sprintf("1.%d.0", releases-1)
			if _, err := c.Resolve(b.Context(), version); err != nil {
				b.Fatal(err)
			}
			source.take()
			for b.Loop() {
				if _, err := c.Resolve(b.Context(), version); err != nil {
					b.Fatal(err)
				}
			}
			if asked := source.take(); len(asked) > 0 {
				b.Errorf("the source was asked for %q", asked)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "checks/s")
		})
	}
}
