package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/perennial-go/perennial/internal/waittest"
)

// runPage runs the commands of a page in dir, as they are printed, and checks what
// they print. They start agents, whose logs they write to ID.log, in the background.
func (s *site) runPage(dir, script string, agents []string, env []string, says ...string) {
	s.t.Helper()
	if strings.Count(script, "agentd ") < 20 {
		s.t.Fatalf("too few commands were found:\n%s", script)
	}
	bin := s.t.TempDir()
	link(s.t, "1.0.0", filepath.Join(bin, "agentd"))
	printed, err := os.Create(filepath.Join(s.t.TempDir(), "printed"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = printed.Close() }()
	sh := exec.CommandContext(s.t.Context(), "sh", "-ex")
	sh.Dir, sh.Stdin, sh.Stdout, sh.Stderr = dir, strings.NewReader(script), printed, printed
	sh.Env = append(os.Environ(), "AGENTD_ETCD="+s.etcd.URL(), "PATH="+bin+":"+os.Getenv("PATH"))
	sh.Env = append(sh.Env, env...)
	sh.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	failed := sh.Run()
	out, err := os.ReadFile(printed.Name())
	if err != nil {
		s.t.Fatal(err)
	}
	if failed != nil {
		logs := ""
		for _, id := range agents {
			log, _ := os.ReadFile(filepath.Join(dir, id+".log"))
			logs += "\n" + id + " says\n" + string(log)
		}
		s.t.Errorf("%v\n%s%s", failed, out, logs)
		// The agents in the background are left.
		if err := syscall.Kill(-sh.Process.Pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
			s.t.Error(err)
		}
	}
	// They may still be writing to dir, which is removed.
	waittest.Nil(s.t, "all that the page has started has ended", func() error { return vacant(dir) })
	if failed != nil {
		return
	}
	for _, want := range says {
		if !strings.Contains(string(out), want) {
			s.t.Errorf("want %q in what they print:\n%s", want, out)
		}
	}
}

// vacant tells which processes are in dir, or execute what is there.
func vacant(dir string) error {
	var errs []error
	for _, what := range []string{"cwd", "exe"} {
		links, err := filepath.Glob("/proc/[0-9]*/" + what)
		if err != nil {
			return err
		}
		for _, link := range links {
			// A zombie has neither.
			if at, _ := os.Readlink(link); at == dir || strings.HasPrefix(at, dir+"/") {
				errs = append(errs, fmt.Errorf("%s is %s", link, at))
			}
		}
	}
	return errors.Join(errs...)
}

// link gives the executable of a version a name.
func link(t testing.TB, version, name string) {
	t.Helper()
	if err := os.Symlink(binary(t, version), name); err != nil {
		t.Fatal(err)
	}
}
