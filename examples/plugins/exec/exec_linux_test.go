package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/plugin/sdk"
)

func TestMain(m *testing.M) {
	if isKeeper(os.Args) {
		syscall.Exit(keep()) // not os.Exit, which the race detector delays by a second
	}
	goleak.VerifyTestMain(m)
}

// shell is a command whose script is fixed; args come after it.
func shell(script string, args ...string) map[string]any {
	return map[string]any{"path": "/bin/sh", "args": append([]string{"-c", script, "sh"}, args...)}
}

func with(c map[string]any, more map[string]any) map[string]any {
	maps.Copy(c, more)
	return c
}

func newExecutor(t testing.TB, settings map[string]any) *executor {
	t.Helper()
	data, err := json.Marshal(settings)
	if err != nil {
		t.Fatal(err)
	}
	e := &executor{}
	if err := e.Start(t.Context(), data); err != nil {
		t.Fatal(err)
	}
	return e
}

// one is an executor with the command "c".
func one(t testing.TB, c map[string]any) *executor {
	t.Helper()
	return newExecutor(t, map[string]any{"commands": map[string]any{"c": c}})
}

// outcome is what one task has yielded.
type outcome struct {
	stdout, stderr string
	raw            int // bytes that did not come as text
	end            *ending
	err            error
}

// result puts one result to o.
func (o *outcome) result(t testing.TB, r sdk.Result) {
	t.Helper()
	if o.end != nil {
		t.Errorf("a result after the last: %s", r.Payload)
	}
	var p piece
	if err := json.Unmarshal(r.Payload, &p); err != nil {
		t.Fatal(err)
	}
	raw, err := base64.StdEncoding.DecodeString(p.Base64)
	if err != nil {
		t.Fatal(err)
	}
	o.raw += len(raw)
	switch p.Stream {
	case "stdout":
		o.stdout += p.Text + string(raw)
	case "stderr":
		o.stderr += p.Text + string(raw)
	default:
		o.end = &ending{}
		if err := json.Unmarshal(r.Payload, o.end); err != nil {
			t.Fatal(err)
		}
	}
}

func payload(params map[string]string) []byte {
	data, err := json.Marshal(map[string]any{"command": "c", "params": params})
	if err != nil {
		panic(err)
	}
	return data
}

// do runs the command "c" to its end.
func do(t testing.TB, e *executor, params map[string]string) outcome {
	t.Helper()
	var o outcome
	o.err = e.Execute(t.Context(), sdk.Task{ID: "t1", Capability: "exec", Payload: payload(params)}, func(r sdk.Result) error {
		o.result(t, r)
		return nil
	})
	return o
}

// background runs the command "c"; said is closed once its output has n lines.
func background(t *testing.T, e *executor, lines int) (said <-chan []string, cancel func(), done <-chan outcome) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	out, end := make(chan []string, 1), make(chan outcome, 1)
	go func() {
		var o outcome
		told := false
		o.err = e.Execute(ctx, sdk.Task{ID: "t1", Payload: payload(nil)}, func(r sdk.Result) error {
			o.result(t, r)
			if !told && strings.Count(o.stdout, "\n") >= lines {
				told = true
				out <- strings.Fields(o.stdout)
			}
			return ctx.Err()
		})
		end <- o
	}()
	t.Cleanup(stop)
	return out, stop, end
}

// ended fails the test for each process that still is.
func ended(t *testing.T, pids []string) {
	t.Helper()
	if len(pids) == 0 {
		t.Error("no process was named")
	}
	for _, text := range pids {
		pid, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("process %d is left: %v", pid, err)
		}
	}
}

func TestOutputComesWhileTheCommandRuns(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	e := one(t, shell(`echo odd >&2; echo begun; while read line && [ "$line" != end ]; do echo "$line"; done <"$1"`, fifo))
	var o outcome
	said, done := make(chan string, 10), make(chan error, 1)
	go func() {
		done <- e.Execute(t.Context(), sdk.Task{Payload: payload(nil)}, func(r sdk.Result) error {
			before := o.stdout
			if o.result(t, r); o.stdout != before {
				said <- strings.TrimPrefix(o.stdout, before)
			}
			return nil
		})
	}()
	input, err := os.OpenFile(fifo, os.O_WRONLY, 0) // waits for the command
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = input.Close() }()
	for _, word := range []string{"begun", "one", "two", "end"} {
		if word != "begun" {
			if _, err := input.WriteString(word + "\n"); err != nil {
				t.Fatal(err)
			}
		}
		if word != "end" {
			if got := waittest.Next(t, word+" comes", said); got != word+"\n" {
				t.Errorf("got %q", got)
			}
		}
	}
	if err := waittest.Next(t, "the command ends", done); err != nil {
		t.Error(err)
	}
	if o.stderr != "odd\n" || o.end == nil || o.end.ExitCode == nil || *o.end.ExitCode != 0 || o.end.Stdout != 14 || o.end.Stderr != 4 {
		t.Errorf("%+v, end %+v", o, o.end)
	}
}

func TestValueStaysOneArgumentWhateverItHolds(t *testing.T) {
	e := one(t, with(shell(`printf '%s|' "$@"`, "${v}", "x=${v}"), map[string]any{"params": map[string]any{"v": map[string]any{"pattern": "(?s).*"}}}))
	for _, v := range []string{"", "a b", "; rm -rf /", "$(id)", "`id`", "*", "a\nb", `"'\`, "${v}", "\xff\xfe", "é"} {
		o := do(t, e, map[string]string{"v": v})
		want := strings.ToValidUTF8(v, "\uFFFD") // a payload is JSON
		if strings.Contains(v, "\xff") {
			want = "\uFFFD\uFFFD"
		}
		if o.err != nil || o.stdout != want+"|x="+want+"|" {
			t.Errorf("%q became %q, %v", v, o.stdout, o.err)
		}
	}
}

func TestEnvironmentIsWhatWasAllowedAndTheTask(t *testing.T) {
	t.Setenv("PERENNIAL_PLUGIN", "a secret of the handshake")
	t.Setenv("OTHER", "x")
	t.Setenv("PERENNIAL_PLUGIN_ROOM", "/the/mark")
	t.Setenv("TZ", "UTC")
	e := one(t, map[string]any{"path": "/usr/bin/env", "env": map[string]string{"MODE": "is ${m}", "PATH": "/bin"},
		"params": map[string]any{"m": map[string]any{"pattern": "[a-z]+", "default": "fast"}}})
	var o outcome
	o.err = e.Execute(t.Context(), sdk.Task{ID: "t9", Attempt: 3, IdempotencyKey: "key 1", Payload: payload(nil)}, func(r sdk.Result) error {
		o.result(t, r)
		return nil
	})
	got := map[string]string{}
	for line := range strings.Lines(o.stdout) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		got[name] = value
	}
	for name, want := range map[string]string{"MODE": "is fast", "PATH": "/bin", "TZ": "UTC", "PERENNIAL_TASK_ID": "t9", "PERENNIAL_TASK_ATTEMPT": "3", "PERENNIAL_TASK_KEY": "key 1",
		"PERENNIAL_PLUGIN_ROOM": "/the/mark"} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
	for _, name := range []string{"PERENNIAL_PLUGIN", "OTHER"} {
		if value, ok := got[name]; ok {
			t.Errorf("%s is %q", name, value)
		}
	}
	if o.err != nil {
		t.Error(o.err)
	}
}

// TestCommandInheritsNothingOfItsKeeper: with signals ignored it could not be
// ended gracefully, and descriptors could keep others' pipes open.
func TestCommandInheritsNothingOfItsKeeper(t *testing.T) {
	o := do(t, one(t, shell(`grep -E '^Sig(Ign|Blk)' /proc/self/status; pwd; echo; readlink /proc/$$/fd/* || true`)), nil)
	settings, files, _ := strings.Cut(o.stdout, "\n\n")
	if got := strings.Join(strings.Fields(settings), " "); o.err != nil || got != "SigBlk: 0000000000000000 SigIgn: 0000000000000000 /" {
		t.Errorf("got %q, %v", got, o.err)
	}
	// What this process itself inherited is inherited further.
	theirs := map[string]bool{os.DevNull: true}
	names, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if target, err := os.Readlink(name); err == nil {
			theirs[target] = true
		}
	}
	pipes := 0
	for file := range strings.Lines(files) {
		if file = strings.TrimSuffix(file, "\n"); !theirs[file] && strings.HasPrefix(file, "pipe:") {
			pipes++
		}
	}
	if pipes != 2 {
		t.Errorf("it has %d pipes besides the two that it writes to: %s", pipes-2, files)
	}
}

func TestCancelledTaskLeavesNoProcess(t *testing.T) {
	// It ignores SIGTERM, has a child in a session of its own, and a
	// grandchild in another whose parent has ended.
	script := `trap "" TERM
setsid sleep 1000 & echo $!
setsid sh -c 'setsid sleep 1000 & echo $!; sleep 1000 & echo $!'
echo $$
wait`
	e := one(t, with(shell(script), map[string]any{"grace": "50ms"}))
	said, cancel, done := background(t, e, 4)
	pids := waittest.Next(t, "all run", said)
	cancel()
	if o := waittest.Next(t, "the task ends", done); !errors.Is(o.err, context.Canceled) {
		t.Errorf("%+v", o)
	}
	ended(t, pids)
}

func TestCommandMayEndGracefully(t *testing.T) {
	file := filepath.Join(t.TempDir(), "done")
	e := one(t, with(shell(`trap 'echo bye >"$1"; exit 0' TERM; echo ready; while :; do sleep 0.01; done`, file), map[string]any{"grace": "30s"}))
	said, cancel, done := background(t, e, 1)
	waittest.Next(t, "it runs", said)
	cancel()
	waittest.Next(t, "the task ends", done)
	if _, err := os.Stat(file); err != nil {
		t.Error("it was not given the time to end: ", err)
	}
}

func TestWhatACommandLeavesBehindIsEnded(t *testing.T) {
	o := do(t, one(t, shell(`setsid sleep 1000 & echo $!; setsid sh -c 'sleep 1000 & echo $!' ; exit 0`)), nil)
	if o.err != nil || o.end.ExitCode == nil || *o.end.ExitCode != 0 {
		t.Errorf("%v, %+v", o.err, o.end)
	}
	ended(t, strings.Fields(o.stdout))
}

func TestCommandDiesWithItsKeeper(t *testing.T) {
	said, _, done := background(t, one(t, shell(`echo $PPID; echo $$; exec sleep 1000`)), 2)
	pids := waittest.Next(t, "it runs", said)
	keeper, err := strconv.Atoi(pids[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(keeper, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if o := waittest.Next(t, "the task ends", done); o.err == nil || !strings.Contains(o.err.Error(), "without a report") {
		t.Errorf("%+v", o)
	}
	waittest.Until(t, "the command has ended", func() bool {
		pid, _ := strconv.Atoi(pids[1])
		return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
	})
}

// untilReady runs a command that says "ready" once its trap is set, with longer
// timeouts until one is not over before that.
func untilReady(t *testing.T, script string, more map[string]any) outcome {
	t.Helper()
	for timeout := 200 * time.Millisecond; ; timeout *= 2 {
		o := do(t, one(t, with(with(shell(script), more), map[string]any{"timeout": timeout.String()})), nil)
		if o.err == nil || !strings.Contains(o.err.Error(), "ran longer than "+timeout.String()) || o.end == nil || !o.end.TimedOut {
			t.Fatalf("%v, %+v", o.err, o.end)
		}
		if strings.Contains(o.stdout, "ready") {
			return o
		}
	}
}

func TestCommandThatRunsTooLongIsEnded(t *testing.T) {
	o := untilReady(t, `trap "" TERM; echo $$ ready; while :; do sleep 0.01; done`, map[string]any{"grace": "50ms"})
	if o.end.Signal != "SIGKILL" {
		t.Errorf("%+v", o.end)
	}
	ended(t, strings.Fields(o.stdout)[:1])
}

func TestTimeoutIsAFailureThoughTheCommandEndsWell(t *testing.T) {
	o := untilReady(t, `trap "exit 0" TERM; echo ready; while :; do sleep 0.01; done`, map[string]any{"grace": "30s"})
	if o.end.ExitCode == nil || *o.end.ExitCode != 0 {
		t.Errorf("%+v", o.end)
	}
}

func TestOutputBeyondTheLimitIsCountedAndThrownAway(t *testing.T) {
	e := one(t, with(shell(`head -c 3000000 /dev/zero; echo done >&2`), map[string]any{"max_output": 100_000}))
	o := do(t, e, nil)
	if o.err != nil || len(o.stdout)+len(o.stderr) != 100_000 || o.end.Stdout != 3_000_000 || o.end.Dropped != 2_900_005 {
		t.Errorf("%v, %d bytes, %+v", o.err, len(o.stdout), o.end)
	}
}

func TestOutputArrivesByteForByte(t *testing.T) {
	// Characters of three bytes, of which the pieces' bounds cut some; then
	// bytes that are no text.
	script := `i=0; while [ $i -lt 3000 ]; do printf '€€€€€€€€€€'; i=$((i+1)); done`
	o := do(t, one(t, shell(script+`; printf '\377\000\201'`)), nil)
	if want := strings.Repeat("€", 30_000) + "\xff\x00\x81"; o.err != nil || o.stdout != want {
		t.Errorf("%v, %d bytes of %d", o.err, len(o.stdout), len(want))
	}
	if o = do(t, one(t, shell(script)), nil); o.err != nil || o.raw > 0 {
		t.Errorf("%v; of text, %d bytes did not come as text", o.err, o.raw)
	}
}

func TestNoMoreCommandsRunThanThereArePlaces(t *testing.T) {
	file := filepath.Join(t.TempDir(), "go")
	e := newExecutor(t, map[string]any{"concurrency": 2, "commands": map[string]any{"c": shell(`echo begun; until [ -e "$1" ]; do sleep 0.01; done`, file)}})
	var running, most atomic.Int32
	var all sync.WaitGroup
	for range 6 {
		all.Go(func() {
			var o outcome
			o.err = e.Execute(t.Context(), sdk.Task{Payload: payload(nil)}, func(r sdk.Result) error {
				o.result(t, r)
				switch {
				case o.end != nil:
					running.Add(-1)
				default:
					most.Store(max(most.Load(), running.Add(1)))
				}
				return nil
			})
			if o.err != nil || o.stdout != "begun\n" {
				t.Errorf("%+v", o)
			}
		})
	}
	waittest.Until(t, "two run and four wait", func() bool { return running.Load() == 2 && e.waiting.Load() == 4 })
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	all.Wait()
	if most.Load() > 2 {
		t.Errorf("%d ran at once", most.Load())
	}
}

func TestCommandRunsAsItsUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become another")
	}
	o := do(t, one(t, with(shell(`id -u; id -G; echo "$HOME $USER"`), map[string]any{"user": "nobody"})), nil)
	if fields := strings.Fields(o.stdout); o.err != nil || len(fields) < 4 || fields[0] != "65534" || strings.Contains(o.stdout, "\n0\n") || fields[len(fields)-1] != "nobody" {
		t.Errorf("%q, %v", o.stdout, o.err)
	}
}

func TestExecutableThatOthersMayWriteIsNotRun(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c")
	if err := os.WriteFile(file, []byte("#!/bin/sh\necho ran\n"), 0o700); err != nil { //nolint:gosec // it is to be run
		t.Fatal(err)
	}
	e := one(t, map[string]any{"path": file})
	if o := do(t, e, nil); o.err != nil || o.stdout != "ran\n" || e.Health(t.Context()) != nil {
		t.Fatalf("%+v, %v", o, e.Health(t.Context()))
	}
	if err := os.Chmod(file, 0o722); err != nil { //nolint:gosec // that is what is tested
		t.Fatal(err)
	}
	if o := do(t, e, nil); o.err == nil || o.stdout != "" || e.Health(t.Context()) == nil {
		t.Errorf("%+v, %v", o, e.Health(t.Context()))
	}
	if err := os.Chmod(file, 0o700); err != nil { //nolint:gosec // it is to be run
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(file), 0o777); err != nil { //nolint:gosec // that is what is tested
		t.Fatal(err)
	}
	if o := do(t, e, nil); o.err == nil || o.stdout != "" {
		t.Errorf("in a directory that all may write: %+v", o)
	}
}

func TestCommandThatCannotStartSaysWhy(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c")
	if err := os.WriteFile(file, []byte("#!/no/such/interpreter\n"), 0o700); err != nil { //nolint:gosec // it is to be run
		t.Fatal(err)
	}
	if o := do(t, one(t, map[string]any{"path": file}), nil); o.err == nil || !strings.Contains(o.err.Error(), "no such file") || o.end == nil || o.end.ExitCode != nil {
		t.Errorf("%v, %+v", o.err, o.end)
	}
	dir := t.TempDir()
	e := one(t, with(shell("true"), map[string]any{"dir": dir}))
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if o := do(t, e, nil); o.err == nil || !strings.Contains(o.err.Error(), "dir: ") {
		t.Errorf("%v", o.err)
	}
}

func TestHostThatTakesNoMoreResultsEndsTheCommand(t *testing.T) {
	gone := errors.New("gone")
	var pid string
	e := one(t, shell(`echo $$; while :; do echo x; done`))
	err := e.Execute(t.Context(), sdk.Task{Payload: payload(nil)}, func(r sdk.Result) error {
		if pid == "" {
			var p piece
			if err := json.Unmarshal(r.Payload, &p); err != nil {
				return err
			}
			pid = strings.Fields(p.Text)[0]
		}
		return gone
	})
	if !errors.Is(err, gone) {
		t.Error(err)
	}
	ended(t, []string{pid})
}

func TestFailureTellsTheCommandsLastWords(t *testing.T) {
	o := do(t, one(t, shell(`echo first >&2; echo "disk full" >&2; exit 3`)), nil)
	if want := "command c exited with code 3: disk full"; o.err == nil || o.err.Error() != want || *o.end.ExitCode != 3 {
		t.Errorf("%v, %+v; want %s", o.err, o.end, want)
	}
	o = do(t, one(t, shell(`kill -SEGV $$`)), nil)
	if o.err == nil || !strings.Contains(o.err.Error(), "SIGSEGV") || o.end.Signal != "SIGSEGV" {
		t.Errorf("%v, %+v", o.err, o.end)
	}
}
