package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/procfs"
)

// Whose mounts, interfaces and memory limit are the host's.
const (
	ownProcess  = "self"
	initProcess = "1"
)

// sampler is what a set of settings comes to.
type sampler struct {
	settings
	host  string
	self  string // ownProcess, or initProcess of another root
	proc  procfs.FS
	stats *statter
}

func newSampler(set settings, stats *statter) (*sampler, error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	h := &sampler{settings: set, host: host, self: ownProcess, stats: stats}
	if filepath.Clean(set.Root) != "/" {
		h.self = initProcess
	}
	h.proc, err = procfs.NewFS(h.path("proc"))
	return h, err
}

// path is where a path of the host is.
func (h *sampler) path(elements ...string) string {
	return filepath.Join(h.Root, filepath.Join(elements...))
}

// sample reads everything once.
func (h *sampler) sample() *sample {
	s := &sample{Time: time.Now().UTC(), Source: "hostmetrics", Host: h.host, Metrics: []metric{}, limit: h.MaxMetrics}
	// When values are dropped they are the last ones.
	for _, source := range []struct {
		of   string
		read func(*sample) error
	}{
		{"cpu", h.cpu},
		{"load", h.load},
		{"memory", h.memory},
		{"memory limit", h.workingSet},
		{"paging", h.paging},
		{"processes", h.processes},
		{"file descriptors", h.descriptors},
		{"pressure", h.pressure},
		{"disks", h.disks},
		{"network", h.network},
		{"file systems", h.filesystems},
		{"cgroups", h.cgroups},
	} {
		s.fail(source.of, guarded(source.read, s))
	}
	return s
}

// guarded makes an error of a panic: procfs takes fields of a line without
// counting them, so that a line of a kernel that it does not know may be one.
func guarded(read func(*sample) error, s *sample) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("its form is not known: %v", p)
		}
	}()
	return read(s)
}
