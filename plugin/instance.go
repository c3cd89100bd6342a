package plugin

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/perennial-go/perennial/plugin/pluginpb"
)

// bundle is one verified pair of manifest and executable.
type bundle struct {
	manifest Manifest
	text     []byte // of the manifest
	settings []byte
	source   string // the executable in the plugins directory
	identity string // digest of both files
	print    string // stat of the files when they were read
	// signed is the id of the key that signed the manifest, "" if none did.
	signed    string
	signature []byte
}

// parse fills in what follows from the text.
func (b *bundle) parse() (err error) {
	if b.manifest, err = ParseManifest(b.text); err != nil {
		return err
	}
	b.identity = fmt.Sprintf("%x/%s", sha256.Sum256(b.text), b.manifest.SHA256)
	b.settings, err = b.manifest.settingsJSON()
	return err
}

func (b *bundle) String() string {
	return fmt.Sprintf("%s (sha256 %.12s)", b.manifest.Version, b.manifest.SHA256)
}

// instance is one running generation of a plugin.
type instance struct {
	bundle *bundle
	proc   *process
	link   *link
	room   room
	log    *slog.Logger
	said   *output
	// records holds what a successor needs to know of it.
	records *records

	// ctx ends when the calls in flight must end, brief when those that can be
	// resumed must.
	ctx, brief        context.Context
	cancel, interrupt context.CancelFunc

	mu       sync.Mutex
	inflight int
	brisk    int // of these, calls that are interrupted at once
	draining bool
	idle     chan struct{} // closed once draining and nothing is in flight
	yielded  chan struct{} // the same for the brisk ones
}

func (l *launcher) instance(ctx context.Context, b *bundle, log *slog.Logger) *instance {
	i := &instance{bundle: b, log: log, records: l.records, idle: make(chan struct{}), yielded: make(chan struct{})}
	i.ctx, i.cancel = context.WithCancel(context.WithoutCancel(ctx))
	i.brief, i.interrupt = context.WithCancel(i.ctx)
	return i
}

// health returns the problem that the plugin reports, or an error if it does
// not answer.
func (i *instance) health(ctx context.Context) (problem string, err error) {
	answer, err := i.link.rpc.Health(ctx, &pluginpb.HealthRequest{})
	if err != nil {
		return "", fmt.Errorf("health: %w", plain(err))
	}
	return answer.GetProblem(), nil
}

// enter admits a call to the instance unless it drains.
func (i *instance) enter(resumable bool) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.draining {
		return false
	}
	i.inflight++
	if resumable {
		i.brisk++
	}
	return true
}

func (i *instance) leave(resumable bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.inflight--
	if resumable {
		i.brisk--
		if i.draining && i.brisk == 0 {
			close(i.yielded)
		}
	}
	if i.draining && i.inflight == 0 {
		close(i.idle)
	}
}

// open is how many calls are in flight.
func (i *instance) open() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.inflight
}

func (i *instance) hasExited() bool {
	select {
	case <-i.proc.exited:
		return true
	default:
		return false
	}
}

// bar admits no more calls and interrupts those that their callers resume
// elsewhere. It may be called again.
func (i *instance) bar() {
	i.mu.Lock()
	if !i.draining {
		i.draining = true
		if i.inflight == 0 {
			close(i.idle)
		}
		if i.brisk == 0 {
			close(i.yielded)
		}
	}
	i.mu.Unlock()
	i.interrupt()
}

// settled waits until nothing is in flight, for limit at most and until ctx
// ends.
func (i *instance) settled(ctx context.Context, limit time.Duration) {
	i.await(ctx, i.idle, limit)
}

func (i *instance) await(ctx context.Context, calls <-chan struct{}, limit time.Duration) {
	patience := time.NewTimer(limit)
	defer patience.Stop()
	select {
	case <-calls:
	case <-i.proc.exited:
	case <-ctx.Done():
	case <-patience.C:
	}
}

// stopRPCTimeout is what the plugin gets of StopTimeout to do what Stop asks.
const stopRPCTimeout = 2 * time.Second

// drain ends the instance. Calls that are not resumed elsewhere may finish
// first, for calls at most and until hurry ends; then the plugin is asked to
// stop, sent SIGTERM, and killed, all that within stop and the moment that a
// kill takes.
func (i *instance) drain(hurry context.Context, calls, stop time.Duration) {
	i.bar()
	i.settled(hurry, calls)
	// Before it is told: one that has been is of no use to a host that comes
	// after the death of this one, however well it is.
	i.records.remove(i)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(i.ctx), stop)
	defer cancel()
	release := context.AfterFunc(ctx, i.proc.kill)
	defer release()
	// Half of it where it is short: SIGTERM is to have its chance.
	asked, cancelAsked := context.WithTimeout(ctx, min(stopRPCTimeout, stop/2))
	defer cancelAsked()
	if _, err := i.link.rpc.Stop(asked, &pluginpb.StopRequest{}); err != nil && !i.hasExited() {
		i.log.Warn("plugin did not stop in order", "error", plain(err))
	}
	select {
	case <-i.idle: // what the calls had produced has arrived
	case <-asked.Done():
	}
	i.finish(ctx)
}

// discard ends at once what is left of the instance and returns when its
// process has been reaped.
func (i *instance) discard() {
	i.cancel()
	now, cancel := context.WithCancel(context.Background())
	cancel()
	i.finish(now)
}

// finish sends SIGTERM, and once ctx ends SIGKILL. It returns when nothing is
// left of the instance but a process that the system does not let die.
func (i *instance) finish(ctx context.Context) {
	if i.proc != nil {
		if err := i.proc.end(ctx); err != nil {
			i.log.Error("the process of a plugin is left", "error", err)
			i.said.release()
		}
		<-i.said.done
	}
	select {
	case <-i.idle: // what the calls had produced has arrived
	case <-ctx.Done():
	}
	i.cancel()
	if i.link != nil {
		i.link.close()
	}
	// The record last: one of a process that has ended harms nobody.
	i.room.close()
	i.records.remove(i)
}
