package etcdtest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"time"
)

// process is one run of the server.
type process struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	exited chan struct{}
}

// kill ends the process at once and waits for its exit; nil is no process.
func (p *process) kill() {
	if p == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	<-p.exited
	_ = p.stdin.Close()
}

// run starts the process and waits until it serves, which a member of a
// cluster does once there is a quorum. It returns where that is.
func (s *Server) run(timeout time.Duration) (p *process, addr string, err error) {
	args := []string{"--data", s.dir, "--listen", s.addr}
	if s.member != nil {
		args = append(args, "--peer", s.member.url)
	}
	cmd := exec.Command(s.binary, append(append(args, "--"), s.flags...)...)
	cmd.Stderr = s.log
	if s.member != nil {
		cmd.Env = append(os.Environ(), s.member.env()...)
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, "", err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, "", err
	}
	if err := cmd.Start(); err != nil {
		return nil, "", err
	}
	p = &process{cmd: cmd, stdin: stdin, exited: make(chan struct{})}
	served := make(chan string, 1)
	go func() {
		defer close(p.exited)
		lines := bufio.NewReader(stdout)
		text, _ := lines.ReadString('\n')
		if s.member != nil {
			s.member.listens(strings.TrimSpace(text))
			text, _ = lines.ReadString('\n')
		}
		served <- strings.TrimSpace(text)
		_ = cmd.Wait()
	}()
	select {
	case text := <-served:
		u, err := url.Parse(text)
		if err != nil || u.Host == "" {
			_ = stdin.Close()
			<-p.exited
			return nil, "", fmt.Errorf("want a URL on standard output, found %q", text)
		}
		return p, u.Host, nil
	case <-time.After(timeout):
		p.kill()
		return nil, "", errors.New("it printed no address in time")
	}
}
