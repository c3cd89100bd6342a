package plugintest

import (
	"syscall"
	"testing"
)

func checkTerminate(tb testing.TB, s *suite) {
	h := s.launch(tb).connect(tb)
	h.adopt(tb)
	if s.Long.Capability != "" {
		h.execute(tb, s.Long).next(tb, "the first result")
	}
	h.subject.terminate(tb)
	h.subject.mustEnd(tb, s.limits.end, "SIGTERM without a Stop before ends it")

	h = s.launch(tb).connect(tb)
	h.adopt(tb)
	if err := h.stop(tb); err != nil {
		tb.Fatalf("Stop: %v", err)
	}
	h.subject.terminate(tb)
	end := h.subject.mustEnd(tb, s.limits.end, "SIGTERM after Stop ends it")
	if end.ExitCode() != 0 && signalled(end) != syscall.SIGTERM {
		tb.Errorf("after Stop and SIGTERM: want exit status 0 or the signal, found %s", end)
	}
}

func checkSecondHost(tb testing.TB, s *suite) {
	p := s.orphanable(tb)
	first := p.connect(tb)
	first.adopt(tb)
	second := p.connect(tb)
	second.info(tb)
	attached := second.attach(tb)
	if !attached.started {
		tb.Error("Attach of a second host: want started true, found false")
	}
	second.mustBeWell(tb, "beside the first host")
	var kept *run
	if s.Long.Capability != "" {
		first.execute(tb, s.Long).next(tb, "the first host's first result")
		kept = second.execute(tb, s.Long)
		kept.next(tb, "the second host's first result")
	}
	first.die()
	p.mustStay(tb, s.limits.orphan*3/2, "the second host was attached when the first one left")
	attached.mustHold(tb, "after the first host had left")
	second.mustBeWell(tb, "after the first host has left")
	if kept != nil {
		kept.next(tb, "a result of the second host's task after the first host has left")
	}
}

func checkReattach(tb testing.TB, s *suite) {
	p := s.orphanable(tb)
	h := p.connect(tb)
	h.adopt(tb)
	if s.Long.Capability != "" {
		h.execute(tb, s.Long).next(tb, "the first result")
	}
	h.die()
	h = p.connect(tb)
	h.info(tb)
	attached := h.attach(tb)
	if !attached.started {
		tb.Fatal("Attach of a host that came back: want started true, found false")
	}
	h.mustBeWell(tb, "after a host has come back")
	p.mustStay(tb, s.limits.orphan*3/2, "a host had come back in time")
	attached.mustHold(tb, "after the host had come back")
	if s.Long.Capability != "" {
		h.execute(tb, s.Long).next(tb, "the first result after the host has come back")
	}
}

// checkOrphan has two processes wait for a host at once: one that no host
// ever found, and one with a host that does not hold it.
func checkOrphan(tb testing.TB, s *suite) {
	alone, left := s.orphanable(tb), s.orphanable(tb)
	h := left.connect(tb)
	a := h.adopt(tb)
	var task *run
	if s.Long.Capability != "" {
		task = h.execute(tb, s.Long)
		task.next(tb, "the first result")
	}
	a.leave()
	if task != nil {
		if _, err := task.rest(tb, "after no host was attached any more; a connection alone is none"); err == nil {
			tb.Error("a task that ran when no host was attached any more: want an error, found that it is done")
		}
	}
	for what, p := range map[string]*subject{"no host was attached any more": left, "no host has ever attached": alone} {
		end := p.mustEnd(tb, s.limits.orphan+s.limits.end, what+"; a connection alone is none")
		if sig := signalled(end); sig != 0 {
			tb.Errorf("%s: want that it exits by itself, found that it was ended by %s", what, sig)
		}
	}
}

// checkOutput has nobody read what the plugin writes.
func checkOutput(tb testing.TB, s *suite) {
	p := s.start(tb, conditions{shutEyes: true})
	p.shakeHands(tb)
	h := p.connect(tb)
	h.adopt(tb)
	for _, pipe := range []*pipe{p.out.stdout, p.out.stderr} {
		if err := pipe.fill(); err != nil {
			tb.Fatal(err)
		}
	}
	var loud *run
	if s.Loud.Capability != "" {
		loud = h.execute(tb, s.Loud)
	}
	for range 3 {
		h.mustBeWell(tb, "while nobody reads what it writes")
	}
	next := p.connect(tb)
	next.info(tb)
	next.attach(tb)
	next.mustBeWell(tb, "while the next host does not read yet what it writes")
	go p.out.stdout.drain(p.out.stdout.ours)
	go p.out.stderr.drain(p.out.stderr.ours)
	if loud != nil {
		if _, err := loud.rest(tb, "since what it wrote is read again"); err != nil {
			tb.Fatalf("Config.Loud: want that it waits for a reader and is done then, found %v", err)
		}
	} else {
		tb.Log("not checked: a task that writes while nobody reads; it needs Config.Loud")
	}
	if s.Short.Capability != "" {
		if _, err := next.execute(tb, s.Short).rest(tb, "though it is short"); err != nil {
			tb.Fatalf("Config.Short after nobody had read for a while: %v", err)
		}
	}
	p.mustLive(tb, "after nobody had read for a while")
}
