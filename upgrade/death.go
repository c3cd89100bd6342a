package upgrade

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
	"unicode"
)

// reasonBytes bounds a reason: it goes to the journal and to etcd, and parts
// of it are a successor's words.
const reasonBytes = 2 << 10

// died explains the return of tableflip's Upgrade before commit.
func (t *trial) died(err error) *failure {
	if err == nil {
		return &failure{class: BadBinary, reason: "the successor took over before it was told to: it calls tableflip's Ready itself"}
	}
	if f := t.lastWords(); f != nil {
		return f
	}
	// tableflip keeps the text of the cause only.
	text := strings.TrimPrefix(err.Error(), "tableflip: ")
	if cause, ok := strings.CutPrefix(text, "can't start child: "); ok {
		return unstartable(t.slot.binary(), cause)
	}
	var pid int
	if n, _ := fmt.Sscanf(text, "child pid=%d exited", &pid); n == 0 {
		return &failure{class: BadEnvironment, ours: true, reason: "the successor could not be started: " + text}
	}
	t.know(pid)
	_, how, failed := strings.Cut(text, "exited: ")
	f := &failure{class: BadBinary, dead: true, reason: "the successor did not stay alive: " + how}
	switch {
	case !failed:
		f.reason = "the successor did not stay alive: it ended by itself with exit status 0; a release must stay in the foreground"
	case strings.HasPrefix(how, "signal: killed"):
		// No program does that to itself: the kernel out of memory, or
		// somebody.
		f.class = BadEnvironment
		f.reason += " (by the kernel, out of memory, or by somebody)"
	case strings.HasPrefix(how, "signal: terminated"), strings.HasPrefix(how, "signal: hangup"):
		f.class = BadEnvironment
		f.reason += " (by somebody)"
	}
	if t.trouble != "" {
		// Somebody else has the address, or its name does not resolve.
		f.class = BadEnvironment
		f.reason += "; it said: " + t.trouble
	}
	return f
}

// lastWords reads what a dead successor had said, and returns why it gave up
// if it said so. Its end of the stream is open in this process still, so it is
// ended here, behind the last frame.
func (t *trial) lastWords() *failure {
	end, ok := t.far.(*net.UnixConn)
	if t.in == nil || !ok || end.CloseWrite() != nil {
		return nil
	}
	var gave *failure
	for m := range t.in {
		switch {
		case m.err != nil:
		case m.frame.Kind == kindTrouble:
			t.trouble = m.frame.Reason
		case m.frame.Kind == kindFailed:
			gave = gaveUp(m.frame)
		}
	}
	t.in = nil
	return gave
}

// unstartable explains why binary could not be executed. ENOEXEC blames the
// release; anything else can be mended on the host.
func unstartable(binary, cause string) *failure {
	f := &failure{class: BadEnvironment, reason: "the successor could not be started: " + cause}
	file, err := elf.Open(binary)
	if errors.Is(err, fs.ErrNotExist) {
		return f
	}
	if err == nil {
		defer func() { _ = file.Close() }()
	}
	switch {
	case strings.Contains(cause, "exec format error"):
		f.class = BadBinary
		f.reason = "the release's executable is none for this platform: " + cause
		if err == nil && !ours(file) {
			f.reason = fmt.Sprintf("the release is built for another architecture, %s; this host is %s/%s: %s", file.Machine, runtime.GOOS, runtime.GOARCH, cause)
		}
	case err == nil && strings.Contains(cause, "no such file or directory"):
		// The kernel's answer is about what the executable names, not about
		// the executable.
		if name := interpreter(file); name != "" {
			f.reason = fmt.Sprintf("the release needs the program interpreter %s, which this host does not have; install it or build the release statically: %s", name, cause)
		}
	case strings.Contains(cause, "permission denied"):
		f.reason += "; is the state directory mounted noexec?"
	}
	return f
}

// ours reports whether file is for the machine that executes this process.
func ours(file *elf.File) bool {
	self, err := os.Executable()
	if err != nil {
		return true
	}
	mine, err := elf.Open(self)
	if err != nil {
		return true
	}
	defer func() { _ = mine.Close() }()
	return mine.Machine == file.Machine
}

// interpreter is the loader that file names, if it is missing.
func interpreter(file *elf.File) string {
	name := loader(file)
	if _, err := os.Stat(name); err == nil {
		return ""
	}
	return name
}

// hungUp explains the end of the handover stream, or that it became
// unreadable. A successor that dies takes the stream with it, so its death
// is waited for as the better reason.
func (t *trial) hungUp(err error) *failure {
	select {
	case end := <-t.ended:
		t.alive = false
		return t.died(end)
	case <-time.After(time.Second):
		return &failure{class: BadBinary, deaf: true, reason: "handover socket: " + err.Error()}
	}
}

// silent explains why a successor is given up that lives and says nothing.
func (t *trial) silent(reason string) *failure {
	if condition := t.family.condition(); condition != "" {
		reason += ": " + condition
	}
	return &failure{class: BadBinary, deaf: true, reason: reason}
}

// complete adds what a dead successor said of its end, and bounds the
// reason.
func (f *failure) complete(lines []string) {
	for _, line := range slices.Backward(lines) {
		if !f.dead {
			break
		}
		// The loaders of glibc and musl.
		if strings.Contains(line, "rror while loading shared librar") || strings.Contains(line, "rror loading shared librar") {
			// To be mended on the host: it lacks what the release needs.
			f.class = BadEnvironment
		} else if !strings.HasPrefix(line, "panic: ") && !strings.HasPrefix(line, "fatal error: ") {
			continue
		}
		f.reason += ": " + line
		break
	}
	f.reason = printable(f.reason, reasonBytes)
}

// sentence makes a reason of what a successor, an error or the host program
// said: printable, on one line, with semicolons between what were several, as
// joined errors have them.
func sentence(s string) string {
	lines := strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' })
	return printable(strings.Join(lines, "; "), reasonBytes)
}

// printable makes text of what a successor said: valid UTF-8 without control
// characters, which are no business of an operator's terminal, and at most
// limit bytes.
func printable(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\t' {
			return unicode.ReplacementChar
		}
		return r
	}, s) // a byte that is no UTF-8 becomes the replacement character, too
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit-len("…")], "") + "…"
}
