package main

import (
	"context"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/perennial-go/perennial/config"
)

const configReadTarget = 5.0 // ns

// measureConfigRead reads in one goroutine, in turns.
func measureConfigRead(ctx context.Context, b *bench) (figure, error) {
	store, err := config.New(config.Config[document]{Default: document{Number: 7}})
	if err != nil {
		return figure{}, err
	}
	var bare atomic.Pointer[document]
	bare.Store(&document{Number: 7})
	ours := &series{what: "config.Store.Snapshot, a field of its value", unit: "ns"}
	theirs := &series{what: "atomic.Pointer.Load, the same field", unit: "ns"}
	allocations := &series{what: "allocations in a batch of reads", unit: ""}
	reads := b.times(20_000_000, 1_000_000)
	sum := 0
	for range b.times(15, 3) {
		before := mallocs()
		began := time.Now()
		for range reads {
			sum += store.Snapshot().Value.Number
		}
		took := time.Since(began)
		allocations.add(float64(mallocs() - before))
		ours.add(float64(took) / float64(reads))
		began = time.Now()
		for range reads {
			sum += bare.Load().Number
		}
		theirs.add(float64(time.Since(began)) / float64(reads))
		if err := ctx.Err(); err != nil {
			return figure{}, err
		}
	}
	runtime.KeepAlive(sum) // or the compiler may leave the reads out
	return figure{
		Measures: measures(ours, theirs, allocations),
		Verdicts: []verdict{
			within("one read, median", "ns", ours.median(), configReadTarget),
			within("allocations in a batch, median", "", allocations.median(), 0),
		},
	}, nil
}

func mallocs() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}
