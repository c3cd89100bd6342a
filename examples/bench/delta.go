package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/perennial-go/perennial/upgrade/release"
	"github.com/perennial-go/perennial/upgrade/release/bsdiff"
)

// measureDelta publishes agentd, agentd with another version, and agentd with
// a check more, and counts what a host that runs the first has to download.
func measureDelta(ctx context.Context, b *bench) (figure, error) {
	f := figure{Notes: []string{
		"the change of code is the build tag fault_unhealthy: one more health check, and the version",
		"a host takes the cheapest form that fits its memory limit",
		"Go's linker compresses debug information, which turns a change of a byte into one of megabytes: build releases with -ldflags -w, or with -compressdwarf=false to keep it",
	}}
	for _, step := range []struct {
		what, tags, ldflags string
		target              bool
	}{
		{"version only", "", "-w", true},
		{"change of code", "fault_unhealthy", "-w", true},
		{"change of code, DWARF not compressed", "fault_unhealthy", "-compressdwarf=false", false},
		{"change of code, as go build has it", "fault_unhealthy", "", false},
	} {
		if b.quick && !step.target {
			continue
		}
		old, err := b.buildWith(ctx, "agentd", "", step.ldflags)
		if err != nil {
			return figure{}, err
		}
		current, err := b.buildWith(ctx, "agentd", step.tags, step.ldflags)
		if err != nil {
			return figure{}, err
		}
		if err := b.deltaStep(ctx, &f, step.what, old, current, step.target); err != nil {
			return figure{}, fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return f, nil
}

func (b *bench) deltaStep(ctx context.Context, f *figure, what, old, from string, target bool) error {
	d := &downloading{}
	var err error
	if d.dir, err = b.path("delta"); err != nil {
		return err
	}
	current := filepath.Join(d.dir, "current")
	if err := restamp(from, current, "1.0.10002"); err != nil {
		return err
	}
	repository, err := newRepositoryOf(d.dir, release.RepositoryConfig{Differs: []release.Differ{bsdiff.Differ{}}})
	if err != nil {
		return err
	}
	began := time.Now()
	if _, err := repository.Publish(ctx, release.Release{Name: downloadName, Version: firstVersion, Binaries: []release.Binary{{Path: old}}}); err != nil {
		return err
	}
	whole := time.Since(began)
	began = time.Now()
	d.pin, err = repository.Publish(ctx, release.Release{
		Name: downloadName, Version: "1.0.10002", Binaries: []release.Binary{{Path: current}}, DeltaFrom: 1,
		Progress: func(line string) { b.say("%s: %s", what, line) },
	})
	if err != nil {
		return err
	}
	both := time.Since(began)
	var stop func()
	if d.repo, stop, err = serveFiles(repoDir(d.dir)); err != nil {
		return err
	}
	defer stop()
	if err := d.open(ctx); err != nil {
		return err
	}
	r, err := b.countDelta(ctx, f, d, what, old, []*series{
		{what: what + ": publish with zstd", unit: "s", samples: []float64{whole.Seconds()}},
		{what: what + ": publish with zstd and two deltas", unit: "s", samples: []float64{both.Seconds()}},
	})
	if err != nil {
		return err
	}
	if r.What += ": bytes moved / zstd of the whole"; target {
		r = within(r.What, r.Unit, r.Value, 10)
	}
	f.Verdicts = append(f.Verdicts, r)
	return nil
}

// countDelta fetches each form in a process of its own.
func (b *bench) countDelta(ctx context.Context, f *figure, d *downloading, what, old string, published []*series) (verdict, error) {
	command, err := b.build(ctx, "bench/fetchonly", "")
	if err != nil {
		return verdict{}, err
	}
	data, err := os.ReadFile(old)
	if err != nil {
		return verdict{}, err
	}
	sum := sha256.Sum256(data)
	p, err := d.manifest.Here()
	if err != nil {
		return verdict{}, err
	}
	zstd := p.Encodings[0].Size
	f.Measures = append(f.Measures, measures(published...)...)
	size := &series{what: what + ": the binary", unit: "KiB", samples: []float64{float64(p.Size) / 1024}}
	full := &series{what: what + ": zstd of the whole", unit: "KiB", samples: []float64{float64(zstd) / 1024}}
	f.Measures = append(f.Measures, measures(size, full)...)
	for _, delta := range p.Deltas {
		s := &series{what: what + ": " + delta.Format + " delta", unit: "KiB", samples: []float64{float64(delta.Size) / 1024}}
		f.Measures = append(f.Measures, measures(s)...)
	}
	r, err := d.child(ctx, command, "-old", hex.EncodeToString(sum[:])+"="+old)
	if err != nil {
		return verdict{}, err
	}
	if !strings.Contains(r.Form, " from ") {
		return verdict{}, fmt.Errorf("want a delta to be taken, found %s", r.Form)
	}
	f.Measures = append(f.Measures, measures(
		&series{what: what + ": fetched by way of " + strings.Fields(r.Form)[0], unit: "ms", samples: []float64{r.Took}},
		&series{what: what + ": peak growth of resident memory", unit: "MiB", samples: []float64{float64(r.Growth) / (1 << 20)}},
	)...)
	return verdict{What: what, Unit: "%", Value: 100 * float64(r.Bytes) / float64(zstd)}, nil
}
