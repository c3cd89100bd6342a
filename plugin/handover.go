package plugin

import (
	"context"
	"sync"
)

// handover is a worker's part in a change of hosts.
type handover struct {
	// leaving reports whether the plugin is to be left to another host.
	leaving func() bool
	// left says that this host looks after the plugin no longer.
	left func()
	// patient ends when what drains has to hurry.
	patient context.Context
	rush    context.CancelFunc
}

func newHandover(leaving func() bool, left func()) handover {
	h := handover{leaving: leaving, left: sync.OnceFunc(left)}
	h.patient, h.rush = context.WithCancel(context.Background())
	return h
}

// inherit puts what an earlier host has left in charge, before run.
func (w *worker) inherit(a adopted) {
	i := a.instance
	t := w.cfg.fresh(i.bundle)
	t.counted = true
	w.mu.Lock()
	w.status.Generation, w.status.Restarts, w.status.Exceptions = a.record.Generation, a.record.Restarts, a.record.Exceptions
	w.status.Inherited = a.record.Exceptions
	w.mu.Unlock()
	w.swap(t, i)
	if a.problem != "" {
		w.set(Degraded, a.problem)
	}
}

// leave hands i to another host: from the call of left on that one may look
// after it. Calls in flight may finish here, unless their callers can resume
// them there. It reports whether it did: the next host would start another
// process beside one that has no record.
func (w *worker) leave(i *instance) bool {
	i.bar()
	// What is resumed there has ended here, unless its caller is too slow.
	i.await(context.Background(), i.yielded, w.cfg.StopTimeout)
	w.launcher.keep(i, w.snapshot())
	if !w.launcher.records.holds(i) {
		return false
	}
	i.proc.detach()
	w.vacate()
	w.set(Stopped, "its process was left to the next host")
	w.left()
	i.settled(context.Background(), w.cfg.DetachTimeout)
	i.part()
	return true
}

// part ends what connects this host with the process, and nothing else.
func (i *instance) part() {
	i.cancel()
	i.link.close()
}

// adoptable reports whether another host can take the process over.
func (p *process) adoptable() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.begun != "" && p.handle != nil && !p.reaped
}

// Detach says that the plugins are to go on when Run's ctx ends, because
// another Manager with the same Config.StateDir takes them over: the one of a
// successor, or of this program started again. Calls that are Resumable are
// interrupted at once, and have returned before the other Manager can begin
// (unless that takes them more than Config.StopTimeout). The others may finish
// while the other one is in charge; Run returns when they have, or when
// Config.DetachTimeout has passed. A plugin that nobody takes over ends after
// Config.OrphanAfter.
//
// A process that ends later, under the other Manager, is still reaped by this
// one for as long as this program lives. Where processes cannot be handed over
// (anywhere but on Linux), Detach changes nothing: the plugins are stopped.
func (m *Manager) Detach() { m.detached.Store(true) }
