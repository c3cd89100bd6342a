// Package fingerprint finds out what a process runs on: kernel, libc, container,
// image, orchestrator, and the container runtimes that the host offers.
//
// It only reads: files below /proc, /etc and /run, and what runtimes answer to the
// question for their version, and for the container that the process is in, on
// their sockets. It starts no program, and tells nobody anything. What answers may
// be anything: each answer is bounded in size and time, and of texts only what can
// be printed is kept.
//
// Linux is what it knows. Elsewhere it finds little or nothing.
package fingerprint

import (
	"context"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

// Fingerprint is what was found. Empty members were not.
type Fingerprint struct {
	// Kernel is its release, as uname -r prints it; OS the distribution and its
	// version, such as "debian 12"; Libc the C library that is installed, such as
	// "glibc 2.36".
	Kernel string `json:"kernel,omitempty"`
	OS     string `json:"os,omitempty"`
	Libc   string `json:"libc,omitempty"`
	// Cgroup is "v1", "v2", or "hybrid" where both are mounted.
	Cgroup string `json:"cgroup,omitempty"`
	// Container is what made the container that the process is in: "docker",
	// "podman", "containerd", "cri-o", "lxc", "systemd-nspawn", or "other"; empty =
	// none was noticed. ContainerID is the runtime's name for it.
	Container   string `json:"container,omitempty"`
	ContainerID string `json:"container_id,omitempty"`
	// Image is the reference that the container was made of, ImageDigest
	// "sha256:<hex>" of that image's manifest.
	Image       string `json:"image,omitempty"`
	ImageDigest string `json:"image_digest,omitempty"`
	// Orchestrator is "kubernetes", "nomad", "ecs", or "systemd" for a service.
	Orchestrator string `json:"orchestrator,omitempty"`
	// Runtimes are those that answer on their sockets, by name.
	Runtimes []Runtime `json:"runtimes,omitempty"`
	// Runc is the version of runc, as a runtime tells it, or as it is written in the
	// executable; "unknown" where there is one that does not tell.
	Runc string `json:"runc,omitempty"`
	// Unknown says what could not be found out, and why; at most 8.
	Unknown []string `json:"unknown,omitempty"`
}

// Runtime is a container runtime that answers.
type Runtime struct {
	// Name is "docker", "podman", "containerd" or "cri-o".
	Name    string `json:"name"`
	Version string `json:"version"`
	Socket  string `json:"socket"`
}

// DefaultTimeout is that of Config.Timeout.
const DefaultTimeout = 2 * time.Second

// Config says what may be done. The zero value looks at everything.
type Config struct {
	// Off looks at nothing.
	Off bool
	// NoSockets asks no runtime.
	NoSockets bool
	// Timeout bounds all questions together; default DefaultTimeout.
	Timeout time.Duration
	// Image is the reference of the image where whoever starts the container knows
	// it, as with Kubernetes, which tells its containers nothing: with a digest at
	// best, as in registry/app:1.2.0@sha256:<hex>. Default the environment variable
	// PERENNIAL_IMAGE.
	Image string
}

// imageVariable is Config.Image's.
const imageVariable = "PERENNIAL_IMAGE"

// Probe looks. It returns within cfg.Timeout, or when ctx ends, with what it has
// found by then, but for a file system that does not answer.
func Probe(ctx context.Context, cfg Config) Fingerprint {
	return (&prober{cfg: cfg, root: "/", env: os.Getenv}).probe(ctx)
}

// prober is one Probe of the machine whose files are below root.
type prober struct {
	cfg  Config
	root string
	env  func(string) string
	found
}

// found is what there is so far, from several goroutines.
type found struct {
	mu sync.Mutex
	Fingerprint
}

func (p *prober) probe(ctx context.Context) Fingerprint {
	if p.cfg.Off {
		return Fingerprint{}
	}
	if p.cfg.Timeout <= 0 {
		p.cfg.Timeout = DefaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	p.host()
	p.container()
	p.image()
	if !p.cfg.NoSockets {
		p.askRuntimes(ctx)
		p.askECS(ctx)
	}
	if p.Runc == "" {
		p.Runc = p.installedRunc()
	}
	f := p.Fingerprint
	slices.SortFunc(f.Runtimes, func(a, b Runtime) int { return strings.Compare(a.Name+a.Socket, b.Name+b.Socket) })
	slices.Sort(f.Unknown)
	f.Unknown = f.Unknown[:min(len(f.Unknown), maxUnknown)]
	return f
}

// Bounds of what is told.
const (
	maxText    = 128 // bytes of one text
	maxUnknown = 8
)

// unknown notes what could not be found out.
func (f *found) unknown(what string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.Unknown = append(f.Unknown, text(what+": "+err.Error()))
}

// text is the beginning of s, as far as it can be printed.
func text(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, strings.TrimSpace(s))
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "")
	}
	return s
}
