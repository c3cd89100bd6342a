package upgrade

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/cloudflare/tableflip"
	"golang.org/x/sys/unix"
)

// childVariable makes a copy of the test binary a child of a bad release.
const childVariable = "PERENNIAL_TEST_CHILD"

// unmarked is the last child of the fault "family".
const unmarked = "without a mark"

// startBadly misbehaves before anything else, as fault says, or returns.
func startBadly(fault string) {
	if os.Getenv(childVariable) == "thief" {
		steal()
	}
	switch fault {
	case "reaper":
		// Not bad: an agent to which orphans fall, as they do to pid 1.
		_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	case "silent":
		os.Exit(7)
	case "exits with 0":
		os.Exit(0)
	case "stopped at once":
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	case "background":
		exe, err := os.Executable()
		child("thief", err, true, append(os.Environ(), childVariable+"=thief"), exe)
		os.Exit(0)
	case "family":
		child("before Open", nil, true, []string{"CLEAN=yes"}, "/bin/sleep", "1000")
	case "takes over unasked":
		if flip, err := tableflip.New(tableflip.Options{}); err == nil {
			_ = flip.Ready()
		}
		select {}
	}
	if how, ok := strings.CutPrefix(fault, "raw "); ok {
		talkBadly(how)
	}
}

// goOnBadly misbehaves with open listeners.
func goOnBadly(fault string) {
	switch fault {
	case "family":
		child("in the group", nil, false, []string{"CLEAN=yes"}, "/bin/sleep", "1000")
		child("in a session", nil, true, os.Environ(), "/bin/sleep", "1000")
		// It forks again and again, so that nobody can kill it by its pid.
		child("hopping", nil, false, []string{agentVariable + "=" + os.Getenv(agentVariable)}, "/bin/sh", "-c", "h() { h & exit; }; h")
		child(unmarked, nil, true, []string{"CLEAN=yes"}, "/bin/sh", "-c", "sleep 1000; true")
	case "flood":
		go func() {
			for line := []byte(strings.Repeat("<\x00\xff", 300) + "\n"); ; {
				_, _ = os.Stderr.Write(line)
			}
		}()
	}
}

// child starts a process that inherits all that it can, and tells its pid.
func child(name string, err error, session bool, env []string, argv ...string) {
	if err == nil {
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Env, cmd.Stdout, cmd.Stderr = env, os.Stdout, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: session}
		if err = cmd.Start(); err == nil {
			fmt.Fprintln(os.Stderr, "child pid", cmd.Process.Pid, name)
			return
		}
	}
	fmt.Fprintln(os.Stderr, "child", name, err)
	os.Exit(1)
}

// steal takes connections from the listening sockets that it inherited.
func steal() {
	for fd := 3; fd < 64; fd++ {
		if on, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_ACCEPTCONN); err != nil || on == 0 {
			continue
		}
		ln, err := net.FileListener(os.NewFile(uintptr(fd), "stolen"))
		if err != nil {
			continue
		}
		go func() {
			for {
				if conn, err := ln.Accept(); err == nil {
					_ = conn.Close()
				}
			}
		}()
	}
	select {}
}

// talkBadly speaks on the handover socket as no agent does.
func talkBadly(how string) {
	flip, err := tableflip.New(tableflip.Options{})
	if err == nil {
		var f *os.File
		if f, err = flip.File(fileHandover); err == nil {
			var conn net.Conn
			if conn, err = fileConn(f); err == nil {
				err = sayBadly(conn, how)
			}
		}
	}
	fmt.Fprintln(os.Stderr, "said", how, err)
	select {}
}

func sayBadly(conn net.Conn, how string) error {
	hello := func(edit func(*frame)) error {
		f := frame{Kind: kindHello, Version: "1.1.0", PID: 1}
		edit(&f)
		return sendFrame(conn, f)
	}
	raw := func(s string) error {
		_, err := conn.Write([]byte(s))
		return err
	}
	var err error
	switch how {
	case "garbage":
		err = raw("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	case "not JSON":
		err = raw("\x00\x00\x00\x04nope")
	case "newer protocol":
		err = raw("\x00\x00\x00\x21" + `{"protocol":2,"kind":"handshake"}`)
	case "cut":
		if err = raw("\x00\x00\x00\x21" + `{"protocol":1`); err == nil {
			err = conn.(*net.UnixConn).CloseWrite()
		}
	case "no hello":
		err = sendFrame(conn, frame{Kind: kindServing})
	case "endless version":
		err = hello(func(f *frame) { f.Version = strings.Repeat("\x01<é", 70_000) })
	case "endless checks":
		if err = hello(func(*frame) {}); err == nil {
			for range 3 {
				err = sendFrame(conn, frame{Kind: kindHealth, Failing: []string{"disk: " + strings.Repeat("<\x00é", 70_000)}})
			}
		}
	case "frames without end":
		if err = hello(func(*frame) {}); err == nil {
			for err == nil {
				err = sendFrame(conn, frame{Kind: "chatter", Reason: strings.Repeat("x", 1000)})
			}
		}
	case "closed":
		if err = hello(func(*frame) {}); err == nil {
			err = sendFrame(conn, frame{Kind: kindServing})
		}
		_ = conn.Close()
	}
	return err
}

// spawn starts a child of the agent that asks, and answers its pid.
func spawn(w http.ResponseWriter, _ *http.Request) {
	cmd := exec.Command("/bin/sleep", "1000")
	if err := cmd.Start(); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = fmt.Fprint(w, cmd.Process.Pid)
}

// noteAccepts writes each accepted connection to a file at once, so that a
// kill -9 loses none.
func noteAccepts(path string) func(net.Conn, http.ConnState) {
	if path == "" {
		return nil
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		fmt.Fprintln(os.Stderr, "accepts:", err)
		os.Exit(1)
	}
	return func(c net.Conn, s http.ConnState) {
		if s == http.StateNew {
			_, _ = fmt.Fprintln(f, os.Getpid(), c.RemoteAddr(), time.Now().UnixNano())
		}
	}
}
