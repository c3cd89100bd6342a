package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

const (
	// orderFile and reportFile are the keeper's descriptors.
	orderFile  = 3
	reportFile = 4
	// maxReportBytes bounds what is read of a keeper.
	maxReportBytes = 64 << 10
	// keeperPatience is how long a keeper may take beyond the grace.
	keeperPatience = 10 * time.Second
	// drainTimeout is how long nothing may come of a stream whose command, and
	// all that it left, has ended.
	drainTimeout = time.Second
)

func supported() error { return nil }

// ownedWell refuses files of others: they could change what is run.
func ownedWell(path string, fi fs.FileInfo) error {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if own := os.Geteuid(); !ok || (st.Uid != 0 && int(st.Uid) != own) {
		return fmt.Errorf("want a file of root's or of this plugin's user, found %s of another", path)
	}
	return nil
}

// surroundings is the part of the environment that every command has. The
// host's mark is in it, by which it finds what a plugin has left.
func surroundings(a *account) []string {
	var env []string
	for _, key := range []string{"PATH", "HOME", "TZ", "LANG", "LC_ALL", "TMPDIR", "PERENNIAL_PLUGIN_ROOM"} {
		if value, ok := os.LookupEnv(key); ok && (key != "HOME" || a == nil) {
			env = append(env, key+"="+value)
		}
	}
	if a != nil {
		env = append(env, "HOME="+a.Home, "USER="+a.Name, "LOGNAME="+a.Name)
	}
	return env
}

// keeper is the plugin's side of a keeper process.
type keeper struct {
	cmd            *exec.Cmd
	grace          time.Duration
	order, report  *os.File
	stdout, stderr *os.File
	once           sync.Once
	kill           *time.Timer   // set by once
	gone           chan struct{} // closed once the keeper has ended
	err            error         // of that
}

// startKeeper starts a command under a keeper of its own. The keeper is in no
// process group of the plugin's and lacks the host's mark, so that it outlives
// a plugin that is killed: it is what ends the command then.
func startKeeper(o order) (*keeper, error) {
	data, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	k := &keeper{grace: time.Duration(o.GraceMillis) * time.Millisecond, gone: make(chan struct{})}
	var theirs [4]*os.File // order, report, stdout, stderr
	var ours [4]*os.File
	closeAll := func(files [4]*os.File) {
		for _, f := range files {
			if f != nil {
				_ = f.Close()
			}
		}
	}
	for i := range theirs {
		r, w, err := os.Pipe()
		if err != nil {
			closeAll(theirs)
			closeAll(ours)
			return nil, err
		}
		if theirs[i], ours[i] = w, r; i == 0 {
			theirs[i], ours[i] = r, w
		}
	}
	defer closeAll(theirs)
	k.order, k.report, k.stdout, k.stderr = ours[0], ours[1], ours[2], ours[3]
	// It need not be found again by a path: the host runs it by descriptor.
	k.cmd = exec.Command("/proc/self/exe", keeperArg) //nolint:noctx // ended by end, gracefully
	k.cmd.Args[0] = "exec: " + o.Argv[0]
	k.cmd.Env, k.cmd.Dir = []string{}, "/"
	k.cmd.ExtraFiles = []*os.File{theirs[0], theirs[1]}
	k.cmd.Stdout, k.cmd.Stderr = theirs[2], theirs[3]
	k.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := k.cmd.Start(); err != nil {
		closeAll(ours)
		return nil, fmt.Errorf("its keeper: %w", err)
	}
	go k.reap()
	_ = k.order.SetWriteDeadline(time.Now().Add(keeperPatience))
	if _, err := k.order.Write(append(data, '\n')); err != nil {
		k.end()
		<-k.gone
		closeAll(ours)
		return nil, fmt.Errorf("its keeper: %w", err)
	}
	return k, nil
}

// reap waits for the keeper. Nobody holds the streams' other ends then, but
// one to whom a command has passed them: whoever reads them is woken.
func (k *keeper) reap() {
	k.err = k.cmd.Wait()
	close(k.gone)
	_, _ = k.stdout.SetReadDeadline(time.Now()), k.stderr.SetReadDeadline(time.Now())
}

// read reads of a stream. Once the keeper has ended it waits no longer than a
// moment.
func (k *keeper) read(file *os.File, buf []byte) (int, error) {
	for timeouts := 0; ; timeouts++ {
		select {
		case <-k.gone:
			_ = file.SetReadDeadline(time.Now().Add(drainTimeout))
		default:
		}
		n, err := file.Read(buf)
		if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) && timeouts < 2 {
			continue // the one that woke it, which may come late
		}
		return n, err
	}
}

// end tells the keeper to end the command, and ends a keeper that does not.
func (k *keeper) end() {
	k.once.Do(func() {
		_ = k.order.Close()
		k.kill = time.AfterFunc(k.grace+keeperPatience, func() { _ = k.cmd.Process.Kill() })
	})
}

// wait returns the report once the keeper has ended. The streams must have
// been read to their ends.
func (k *keeper) wait() report {
	data, readErr := io.ReadAll(io.LimitReader(k.report, maxReportBytes))
	readErr = errors.Join(readErr, k.report.Close())
	<-k.gone
	k.end()
	k.kill.Stop()
	_, _ = k.stdout.Close(), k.stderr.Close()
	var r report
	if err := errors.Join(readErr, json.Unmarshal(data, &r)); err != nil {
		return report{Error: fmt.Sprintf("its keeper ended without a report: %v", errors.Join(k.err, err))}
	}
	return r
}
