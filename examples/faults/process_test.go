package faults

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/waittest"
)

// process is the agent's, as the test sees it.
type process struct {
	testing.TB
	setup
	cmd  *exec.Cmd
	log  string
	done chan struct{}
	web  *http.Client
}

// start runs an agent until the test ends.
func (s setup) start(tb testing.TB) *process {
	tb.Helper()
	dir := tb.TempDir()
	if s.StateDir == "" {
		s.StateDir = filepath.Join(dir, "state")
	}
	text, err := json.Marshal(s)
	if err != nil {
		tb.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	p := &process{TB: tb, setup: s, cmd: exec.Command(self), log: filepath.Join(dir, "log"), done: make(chan struct{})}
	p.web = &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	out, err := os.Create(p.log)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	p.cmd.Env = append(os.Environ(), agentVariable+"="+string(text))
	p.cmd.Stdout, p.cmd.Stderr = out, out
	stdin, err := p.cmd.StdinPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		tb.Fatal(err)
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait()
	}()
	tb.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.done
		_ = stdin.Close()
		if tb.Failed() {
			tb.Logf("the agent said:\n%s", p.said())
		}
	})
	return p
}

// said is the agent's log.
func (p *process) said() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// serves waits until the agent answers.
func (p *process) serves() {
	p.Helper()
	waittest.Nil(p, "the agent serves", func() error {
		select {
		case <-p.done:
			p.Fatalf("the agent ended: %v", p.cmd.ProcessState)
		default:
		}
		_, err := p.ask()
		return err
	})
}

// get returns what the agent answers.
func (p *process) get(path string) (int, []byte, error) {
	addr, err := os.ReadFile(filepath.Join(p.StateDir, "address"))
	if err != nil {
		return 0, nil, err
	}
	res, err := p.web.Get("http://" + string(addr) + path)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	return res.StatusCode, body, err
}

// ask returns the agent's own view of itself.
func (p *process) ask() (state, error) {
	var s state
	code, body, err := p.get("/state")
	if err != nil {
		return s, err
	}
	if code != http.StatusOK {
		return s, fmt.Errorf("status code %d", code)
	}
	return s, json.Unmarshal(body, &s)
}

// live asks whether the agent wants to be restarted; an error says that it
// does, or does not serve.
func (p *process) live() error {
	code, body, err := p.get("/livez?verbose")
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("livez: %d: %s", code, body)
	}
	return err
}

func (p *process) signal(sig syscall.Signal) {
	p.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.Fatal(err)
	}
}
