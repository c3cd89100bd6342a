package faults

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/etcdtest"
	"github.com/perennial-go/perennial/internal/waittest"
)

// TestClockThatJumpsCostsNoLeaseAndNoChange: the wall clock of the agent's
// process, and of no other, jumps an hour ahead and two hours back.
func TestClockThatJumpsCostsNoLeaseAndNoChange(t *testing.T) {
	t.Parallel()
	clock := &clock{}
	b := newBench(t, etcdtest.Start(t).ClientConfig(), place{ttl: short, start: clock.start})
	if clock.err != nil {
		t.Skipf("the clock of one process cannot be set here: %v", clock.err)
	}
	for _, jump := range []struct {
		name string
		to   time.Duration
	}{
		{"clock jumps an hour ahead", time.Hour},
		{"clock jumps two hours back", -time.Hour},
	} {
		f := b.breaks(jump.name, func() {
			if err := clock.set(jump.to); err != nil {
				t.Fatal(err)
			}
		})
		waittest.Nil(t, "the agent sees the jump", func() error {
			s, err := b.ask()
			if off := time.Until(s.Health.At) - jump.to; err == nil && off.Abs() > time.Minute {
				err = fmt.Errorf("the agent's clock says %v", s.Health.At)
			}
			return err
		})
		lasts(t, short+time.Second) // so that a lease that is not renewed ends
		f.mendsItself(verdict{sameLease: true, calm: true})
	}
}

// clock is the wall clock of one process. The system maps a function into each
// process, the vDSO, that reads the clocks without a system call. The copy of
// one process is replaced by a system call, and an addition to what it says.
type clock struct {
	pid   int
	added int64 // address, in the process, of the number that is added
	err   error // why the clock cannot be set
}

// code is __vdso_clock_gettime(edi clock, rsi *timespec), with eight bytes
// behind it for the seconds that are added to CLOCK_REALTIME.
func code() []byte {
	return []byte{
		0xb8, 0xe4, 0, 0, 0, // mov eax, SYS_clock_gettime
		0x0f, 0x05, // syscall
		0x85, 0xff, // test edi, edi
		0x75, 0x0a, // jne to ret
		0x48, 0x8b, 0x0d, 6, 0, 0, 0, // mov rcx, [rip+6]
		0x48, 0x01, 0x0e, // add [rsi], rcx
		0xc3, // ret
		0, 0, // so that what follows is aligned
	}
}

// start starts a process that stops at its first instruction, gives it the
// other clock, and lets it go. Where that fails the process runs all the same.
func (c *clock) start(cmd *exec.Cmd) error {
	runtime.LockOSThread() // the thread that starts it is the one that may let it go
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	c.pid = cmd.Process.Pid
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(c.pid, &status, syscall.WALL, nil); err != nil {
		return err
	}
	if !status.Stopped() {
		return fmt.Errorf("a process that is traced did not stop: %v", status)
	}
	c.err = c.install()
	return syscall.PtraceDetach(c.pid)
}

func (c *clock) install() error {
	begin, end, err := c.vdso()
	if err != nil {
		return err
	}
	image := make([]byte, end-begin)
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", c.pid), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { _ = mem.Close() }()
	if _, err := mem.ReadAt(image, begin); err != nil {
		return err
	}
	file, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return err
	}
	symbols, err := file.DynamicSymbols()
	if err != nil {
		return err
	}
	for _, s := range symbols {
		if s.Name != "__vdso_clock_gettime" {
			continue
		}
		if s.Size < uint64(len(code())+8) {
			return fmt.Errorf("%s has only %d bytes", s.Name, s.Size)
		}
		at := begin + int64(s.Value) //nolint:gosec // an offset in two pages
		c.added = at + int64(len(code()))
		_, err := mem.WriteAt(append(code(), make([]byte, 8)...), at)
		return err
	}
	return errors.New("the vDSO has no __vdso_clock_gettime")
}

// vdso finds where the vDSO is mapped.
func (c *clock) vdso() (begin, end int64, err error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", c.pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(maps)) {
		if strings.Contains(line, "[vdso]") {
			_, err := fmt.Sscanf(line, "%x-%x", &begin, &end)
			return begin, end, err
		}
	}
	return 0, 0, errors.New("the process has no vDSO")
}

// set has the process's wall clock be off by d from now on.
func (c *clock) set(d time.Duration) error {
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", c.pid), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { _ = mem.Close() }()
	seconds := binary.LittleEndian.AppendUint64(nil, uint64(int64(d/time.Second))) //nolint:gosec // two's complement
	_, err = mem.WriteAt(seconds, c.added)
	return err
}
