//go:build unix

package faults

import (
	"syscall"
	"testing"

	"github.com/perennial-go/perennial/internal/etcdtest"
	"github.com/perennial-go/perennial/internal/waittest"
)

// TestAgentThatSleptPastItsLeaseRegistersAnewAndReadsWhatItMissed: a host that
// was suspended, or a virtual machine that was moved.
func TestAgentThatSleptPastItsLeaseRegistersAnewAndReadsWhatItMissed(t *testing.T) {
	t.Parallel()
	b := newBench(t, etcdtest.Start(t).ClientConfig(), place{ttl: short})
	f := b.breaks("process asleep past its lease", func() {})
	f.sleeps(true)
	b.signal(syscall.SIGSTOP)
	waittest.Until(t, "the registration ends with its lease", func() bool { return b.lease() == 0 })
	f.mends(verdict{}, func() {
		b.signal(syscall.SIGCONT)
		b.serves()
		f.sleeps(false)
	})
}

func (p *process) signal(sig syscall.Signal) {
	p.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.Fatal(err)
	}
}
