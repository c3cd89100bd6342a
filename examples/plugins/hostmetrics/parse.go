package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// maxFileBytes is far above what the kernel writes into the files read here.
const maxFileBytes = 1 << 20

func readBounded(f io.ReadCloser) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err = errors.Join(err, f.Close()); err == nil && len(data) > maxFileBytes {
		err = fmt.Errorf("want at most %d bytes, found more", maxFileBytes)
	}
	return data, err
}

// keyed yields lines of "key number"; others are passed over.
func keyed(data []byte) iter.Seq2[string, float64] {
	return func(yield func(string, float64) bool) {
		for line := range strings.Lines(string(data)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
			n, err := strconv.ParseUint(value, 10, 64)
			if err == nil && !yield(key, float64(n)) {
				return
			}
		}
	}
}

// stall is pressure in seconds: while some had to wait, and while all had to.
type stall struct {
	some, full       float64
	hasSome, hasFull bool
}

// stallOf reads lines of "some avg10=… total=microseconds".
func stallOf(data []byte) stall {
	var p stall
	for line := range strings.Lines(string(data)) {
		kind, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		_, total, ok := strings.Cut(rest, "total=")
		n, err := strconv.ParseUint(total, 10, 64)
		switch {
		case !ok || err != nil:
		case kind == "some":
			p.some, p.hasSome = float64(n)/1e6, true
		case kind == "full":
			p.full, p.hasFull = float64(n)/1e6, true
		}
	}
	return p
}

// add adds what is there; of names like node_pressure_cpu_waiting_seconds_total.
func (p stall) add(s *sample, prefix string, labels ...string) {
	if p.hasSome {
		s.add(prefix+"_waiting_seconds_total", p.some, labels...)
	}
	if p.hasFull {
		s.add(prefix+"_stalled_seconds_total", p.full, labels...)
	}
}

// deviceIO is what a group did on one device.
type deviceIO struct{ reads, writes, readBytes, writeBytes float64 }

// ioStat reads version 2's lines of "major:minor rbytes=1 wbytes=2 …".
func ioStat(data []byte) map[string]deviceIO {
	all := map[string]deviceIO{}
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) < 2 || !isDevice(fields[0]) {
			continue
		}
		d := all[fields[0]]
		for _, field := range fields[1:] {
			key, value, _ := strings.Cut(field, "=")
			n, err := strconv.ParseUint(value, 10, 64)
			if err != nil {
				continue
			}
			switch key {
			case "rbytes":
				d.readBytes = float64(n)
			case "wbytes":
				d.writeBytes = float64(n)
			case "rios":
				d.reads = float64(n)
			case "wios":
				d.writes = float64(n)
			}
		}
		all[fields[0]] = d
	}
	return all
}

// blkio reads version 1's lines of "major:minor Read 1"; its last one, of a
// total, has no device.
func blkio(data []byte, take func(device, operation string, n float64)) {
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) != 3 || !isDevice(fields[0]) {
			continue
		}
		if n, err := strconv.ParseUint(fields[2], 10, 64); err == nil {
			take(fields[0], fields[1], float64(n))
		}
	}
}

func isDevice(s string) bool {
	major, minor, ok := strings.Cut(s, ":")
	_, err := strconv.ParseUint(major, 10, 32)
	_, err2 := strconv.ParseUint(minor, 10, 32)
	return ok && err == nil && err2 == nil
}

// ordered yields a map by its keys.
func ordered[K cmp.Ordered, V any](m map[K]V) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			if !yield(k, m[k]) {
				return
			}
		}
	}
}
