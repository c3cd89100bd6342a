package plugin

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/perennial-go/perennial/internal/waittest"
)

// logged returns the lines in a plugin's files, oldest first.
func (b *bench) logged(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, path := range slices.Backward(b.logs.paths("probe")) {
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return b.logged(t) // rotated meanwhile
		}
		if err != nil {
			t.Fatal(err)
		}
		if int64(len(data)) > b.logs.bytes {
			t.Errorf("%s has %d bytes, want at most %d", path, len(data), b.logs.bytes)
		}
		all = append(all, strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")...)
	}
	return all
}

// numbered prints the numbers from 1 on to both streams, once it is told to, in
// pieces that end in the middle of lines, and waits at the end: what is in a
// FIFO that nobody has open is gone.
const numbered = `echo started
until [ -e begin ]; do sleep 0.01; done
i=0
while [ $i -lt %[1]d ]; do
	i=$((i+1))
	printf 'out %%d;' $i
	printf 'err %%d' $i >&2
	printf '\n'
	printf ';\n' >&2
done
until [ -e read ]; do sleep 0.01; done
`

// Hosts come and go while a plugin writes; each line is kept once, in order,
// over the rotation of the files too.
func TestNoLineIsLostWhenAnotherHostGoesOnReading(t *testing.T) {
	const lines = 3000
	b := newBench(t)
	b.logs.bytes, b.logs.files = 16<<10, 20
	p := b.start(t, script(t, fmt.Sprintf(numbered, lines)), Limits{})
	greet(t, p)
	out := p.cfg.out
	out.pace.lift()
	for _, s := range out.streams { // a few lines fill it
		conn, err := s.r.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		err = conn.Control(func(fd uintptr) {
			if _, err := unix.FcntlInt(fd, unix.F_SETPIPE_SZ, 4096); err != nil {
				t.Error(err)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(b.room+"/begin", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	hosts := 1
	for last := fmt.Sprintf("err %d;", lines); ; hosts++ {
		have := len(b.logged(t))
		waittest.Until(t, "some lines more are kept, or the last one", func() bool {
			now := b.logged(t)
			return len(now) > have+50 || slices.Contains(now, last)
		})
		if slices.Contains(b.logged(t), last) {
			break
		}
		out.release()
		next, err := openOutput(b.room, b.logs.file("probe"), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		next.pace.lift()
		out = next
	}
	if err := os.WriteFile(b.room+"/read", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	<-p.exited
	out.finish()
	<-out.done
	var got [2][]string
	for _, line := range b.logged(t) {
		if strings.HasPrefix(line, "err") {
			got[1] = append(got[1], line)
		} else {
			got[0] = append(got[0], line)
		}
	}
	for i, stream := range []string{"out", "err"} {
		for n := range max(lines, len(got[i])) {
			want := fmt.Sprintf("%s %d;", stream, n+1)
			if n >= len(got[i]) || got[i][n] != want {
				t.Fatalf("line %d of %s is %q, want %q; %d hosts", n+1, stream, got[i][min(n, len(got[i])-1)], want, hosts)
			}
		}
	}
	if hosts < 5 {
		t.Errorf("only %d hosts took part", hosts)
	}
}

// Without a host a plugin's writes wait: they neither fail nor kill it.
func TestPluginWithoutAHostWaitsAndLosesNothing(t *testing.T) {
	b := newBench(t)
	// More than a FIFO holds.
	p := b.start(t, script(t, "echo started\nuntil [ -e go ]; do sleep 0.01; done\nhead -c 300000 /dev/zero | tr '\\0' x\necho\necho the end\n"), Limits{})
	greet(t, p)
	p.cfg.out.release()
	if err := os.WriteFile(b.room+"/go", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	waittest.Until(t, "the plugin waits for a reader", func() bool {
		stack, err := os.ReadFile(fmt.Sprintf("/proc/%d/wchan", writer(p.pid())))
		return err == nil && strings.Contains(string(stack), "pipe_write")
	})
	out, err := openOutput(b.room, b.logs.file("probe"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	<-p.exited
	out.finish()
	<-out.done
	if got := strings.Join(b.logged(t), ""); len(got) != 300000+len("the end") || !strings.HasSuffix(got, "the end") {
		t.Errorf("%d bytes are kept", len(got))
	}
}

// writer is the process in the group of pid that was started last.
func writer(pid int) int {
	found := pid
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		var id int
		if _, err := fmt.Sscan(e.Name(), &id); err != nil {
			continue
		}
		if fields, err := procStat(id); err == nil && fields[2] == fmt.Sprint(pid) {
			found = max(found, id)
		}
	}
	return found
}

func TestFloodIsTakenNoFasterThanIsAllowed(t *testing.T) {
	now := time.Now()
	p := newPace()
	p.at = now
	if wait := p.owe(paceBurst, now); wait != 0 {
		t.Errorf("the burst waits %s", wait)
	}
	if wait := p.owe(paceBytes, now); wait != time.Second {
		t.Errorf("what a second allows waits %s", wait)
	}
	if wait := p.owe(0, now.Add(time.Second)); wait != 0 {
		t.Errorf("a debt that is paid waits %s", wait)
	}
	if wait := p.owe(paceBurst+paceBytes, now.Add(time.Hour)); wait != time.Second {
		t.Errorf("after an hour the burst is more than a burst: %s", wait)
	}
}

func TestLogFilesStayWithinTheirBounds(t *testing.T) {
	b := newBench(t)
	b.logs.bytes, b.logs.files = 1000, 3
	f := b.logs.file("probe")
	defer f.close()
	write := func(from, to int) {
		for n := from; n < to; n++ {
			if err := f.write(fmt.Appendf(nil, "line %d\n", n)); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(0, 1000)
	// A crash in the middle of a rotation leaves a gap.
	if err := os.Rename(f.numbered(1), f.numbered(2)); err != nil {
		t.Fatal(err)
	}
	write(1000, 1200)
	got := b.logged(t)
	if files := b.logs.paths("probe"); len(files) != 3 || files[0] != f.path {
		t.Errorf("files %q", files)
	}
	for i, line := range got {
		if want := fmt.Sprintf("line %d", 1200-len(got)+i); line != want {
			t.Fatalf("found %q, want %q", line, want)
		}
	}
	if len(got) < 200 {
		t.Errorf("only %d lines are kept", len(got))
	}
}

// A full disk costs the lines that do not fit, and no more than that.
func TestLogGoesOnWhenItCanBeWrittenAgain(t *testing.T) {
	b := newBench(t)
	f := b.logs.file("probe")
	defer f.close()
	if err := os.Symlink("/dev/full", f.path); err != nil {
		t.Fatal(err)
	}
	if err := f.write([]byte("lost\n")); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a line that could not be kept: %v", err)
	}
	if err := os.Remove(f.path); err != nil {
		t.Fatal(err)
	}
	if err := f.write([]byte("kept\n")); err != nil {
		t.Error(err)
	}
	if got := b.logged(t); !slices.Equal(got, []string{"kept"}) {
		t.Errorf("found %q", got)
	}
}

func TestLineThatWasCutShortDoesNotSwallowTheNext(t *testing.T) {
	b := newBench(t)
	f := b.logs.file("probe")
	defer f.close()
	if err := os.WriteFile(f.path, []byte("whole\nhal"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"next\n", "last\n"} {
		if err := f.write([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := b.logged(t), []string{"whole", "hal", "next", "last"}; !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
}

func TestGarbageInsteadOfAHandshakeIsBoundedAndPrintable(t *testing.T) {
	b := newBench(t)
	p := b.start(t, script(t, "head -c 1000000 /dev/urandom | tr -d '\\n'\necho\necho after\n"), Limits{})
	got := greet(t, p)
	if len(got) == 0 || len(got) > maxHandshakeBytes {
		t.Errorf("%d bytes are taken for the handshake", len(got))
	}
	if i := strings.IndexFunc(got, func(r rune) bool { return r < ' ' || r > '~' }); i >= 0 {
		t.Errorf("byte %d is %q", i, got[i])
	}
	<-p.exited
	<-p.cfg.out.done
	if all := b.logged(t); all[len(all)-1] != "after" {
		t.Errorf("the log ends with %q", all[len(all)-1])
	}
}
