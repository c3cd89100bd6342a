package killtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/perennial-go/perennial/examples/internal/spool"
	"github.com/perennial-go/perennial/internal/etcdtest"
	"github.com/perennial-go/perennial/internal/waittest"
)

// site is everything that is killed, and what is known of it.
type site struct {
	t           *testing.T
	seed        uint64
	dir         string
	etcd        *etcdtest.Server
	url         string // of etcd
	client      *clientv3.Client
	repo, trust string
	nursery     *nursery
	hosts       []*host
	writers     []*writer
	submitter   *submitter
	tally       tally

	mu    sync.Mutex
	notes []string // shown if the test fails
}

func (s *site) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notes = append(s.notes, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
}

func (s *site) ledger() string { return filepath.Join(s.dir, "ledger") }

// TestBooksBalanceAfterHostsPluginsAndEtcdWereKilledAtRandom.
func TestBooksBalanceAfterHostsPluginsAndEtcdWereKilledAtRandom(t *testing.T) {
	if builds.err != nil {
		t.Fatal(builds.err)
	}
	seed, seconds := number(t, "PERENNIAL_KILL_SEED", 1), number(t, "PERENNIAL_KILL_SECONDS", 60)
	t.Logf("PERENNIAL_KILL_SEED=%d PERENNIAL_KILL_SECONDS=%d", seed, seconds)
	s := newSite(t, seed)
	keeping, release := context.WithCancel(t.Context())
	defer release()
	var keepers errgroup.Group
	for _, h := range s.hosts {
		keepers.Go(func() error { return h.keep(keeping) })
	}
	s.begin()
	began := time.Now()
	s.torture(time.Duration(seconds) * time.Second) //nolint:gosec // some minutes
	tortured := time.Since(began)
	settled := s.settle()
	s.noZombies()
	release()
	if err := keepers.Wait(); err != nil {
		t.Error(err)
	}
	s.stopHosts()
	s.balance()
	if tortured >= 45*time.Second {
		s.hitAll()
	}
	t.Logf("%s of it, %s: %s", tortured.Round(time.Second), settled, s.summary())
}

func newSite(t *testing.T, seed uint64) *site {
	t.Helper()
	// Not t.TempDir: sockets would not lie below it, so long is its name.
	s := &site{t: t, seed: seed, dir: builds.dir, etcd: etcdtest.Start(t)}
	s.url, s.client = s.etcd.URL(), s.etcd.Client(t)
	s.repo, s.trust = filepath.Join(s.dir, "repo"), filepath.Join(s.dir, "keys", "release.pub")
	var err error
	if s.nursery, err = newNursery(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var reaper sync.WaitGroup
	reaper.Go(func() { s.nursery.reap(ctx) })
	t.Cleanup(func() {
		killAll(s.dir)
		cancel()
		reaper.Wait()
		if t.Failed() {
			s.tell()
		}
	})
	s.agentd("keys", "generate", "--out", filepath.Dir(s.trust))
	for _, v := range []string{oldVersion, newVersion} {
		s.agentd("release", "build", "--plain", "--key", filepath.Join(filepath.Dir(s.trust), "release.key"), "--repo", s.repo, "--version", v, built("agentd", v))
	}
	for _, id := range []string{"a1", "a2"} {
		h, err := newHost(s, id)
		if err != nil {
			t.Fatal(err)
		}
		s.hosts = append(s.hosts, h)
		for _, name := range []string{"renamed", "copied"} {
			s.writers = append(s.writers, &writer{path: h.log(name), name: id + " " + name, copies: name == "copied", d: newDice(seed, "writer "+id+name)})
		}
	}
	if s.submitter, err = newSubmitter(s.client, newDice(seed, "submitter")); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *site) agentd(args ...string) {
	s.t.Helper()
	if out, err := s.nursery.output(command(args...)); err != nil {
		s.t.Fatalf("agentd %q: %v\n%s", args, err, out)
	}
}

// begin waits until all logs are followed: what is rotated before is not the
// log's.
func (s *site) begin() {
	s.t.Helper()
	for _, w := range s.writers {
		if err := w.first(); err != nil {
			s.t.Fatal(err)
		}
	}
	s.allStored()
}

func (s *site) allStored() {
	s.t.Helper()
	waittest.Nil(s.t, "every line is stored", func() error {
		stored, err := s.stored()
		for _, w := range s.writers {
			if missing, _ := w.judge(stored); len(missing) > 0 {
				err = errors.Join(err, fmt.Errorf("missing: %s", some(missing)))
			}
		}
		return err
	})
}

// torture breaks things for a while, and ends with all of them mended.
func (s *site) torture(length time.Duration) {
	s.t.Helper()
	watching := s.t.Context() // the books are balanced after this
	go func() {
		if err := s.submitter.watch(watching); err != nil {
			s.note("%v", err)
		}
	}()
	ctx, cancel := context.WithTimeout(s.t.Context(), length)
	defer cancel()
	var actors errgroup.Group
	for _, w := range s.writers {
		actors.Go(func() error { return w.write(ctx) })
	}
	actors.Go(func() error { return s.submitter.submit(ctx) })
	for _, h := range s.hosts {
		actors.Go(func() error { return h.suffer(ctx) })
		actors.Go(func() error { return h.sufferPlugins(ctx) })
		actors.Go(func() error { return h.reinstall(ctx) })
	}
	d := newDice(s.seed, "etcd")
	for wait(ctx, d.between(2*time.Second, 8*time.Second)) {
		kills, length := d.percent(50), d.between(100*time.Millisecond, 3*time.Second)
		if kills {
			s.etcd.Kill()
			s.tally.add("etcd killed")
			wait(ctx, length)
			s.etcd.Restart()
		} else {
			s.etcd.Pause()
			s.tally.add("etcd stopped")
			wait(ctx, length)
			s.etcd.Resume()
		}
	}
	if err := actors.Wait(); err != nil {
		s.t.Fatal(err)
	}
}

// settle waits until everything that was begun has come to its end. Plugins that
// were killed too often rest for longer than a test may last: an operator who
// installs them again has them start at once.
func (s *site) settle() (told string) {
	s.t.Helper()
	for _, h := range s.hosts {
		for _, name := range []string{"logtail", "exec"} {
			if err := h.install(name, newVersion, 100); err != nil {
				s.t.Fatal(err)
			}
		}
	}
	began, left := time.Now(), -1
	waittest.Nil(s.t, "every task has ended", func() error {
		ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Second)
		defer cancel()
		n, err := s.submitter.unfinished(ctx)
		if err == nil && left < 0 {
			left = n
		}
		if err == nil && n > 0 {
			err = fmt.Errorf("%d have not", n)
		}
		return err
	})
	tasks := time.Since(began)
	s.allStored()
	return fmt.Sprintf("the %d tasks that were left had ended %s and the lines were stored %s after the last fault", left, tasks.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
}

// stored counts the lines in the spools.
func (s *site) stored() (map[string]int, error) {
	lines := map[string]int{}
	var errs []error
	for _, h := range s.hosts {
		sum, err := spool.Read(filepath.Join(h.state, "spool"), func(record []byte) error {
			var r struct{ Text string }
			err := json.Unmarshal(record, &r)
			lines[r.Text]++
			return err
		})
		if err == nil && len(sum.Damaged) > 0 {
			err = fmt.Errorf("damaged records: %v", sum.Damaged)
		}
		errs = append(errs, err)
	}
	return lines, errors.Join(errs...)
}

// noZombies: no agent leaves what has ended unattended.
func (s *site) noZombies() {
	s.t.Helper()
	waittest.Within(s.t, 10*time.Second, "the agents have waited for all that has ended", func() bool {
		parents := map[int]bool{}
		for _, h := range s.hosts {
			for _, p := range slices.Concat(h.processes(), h.plugged()) {
				parents[p.pid] = true
			}
		}
		return !slices.ContainsFunc(processes(), func(p process) bool { return p.zombie && parents[p.parent] })
	})
}

// stopHosts ends the agents in an orderly way, with which everything ends that
// they have started.
func (s *site) stopHosts() {
	s.t.Helper()
	for _, h := range s.hosts {
		asked := map[int]bool{} // a second time would be an order to end at once
		waittest.Until(s.t, h.id+" has ended", func() bool {
			list := h.processes()
			for _, p := range list {
				if !asked[p.pid] {
					asked[p.pid] = p.signal(syscall.SIGTERM)
				}
			}
			return len(list) == 0
		})
	}
	for _, p := range processes() {
		if !p.zombie && p.pid != os.Getpid() && p.of(s.dir) {
			s.t.Errorf("process %d is left: %q, environment %q", p.pid, p.args, p.env)
		}
	}
	for _, h := range s.hosts {
		for _, what := range []string{"room", "plugins"} {
			if left, err := filepath.Glob(filepath.Join(h.state, "plugins", what, "*")); err != nil || len(left) > 0 {
				s.t.Errorf("of plugins that have ended there is left %q, %v", left, err)
			}
		}
	}
}

func (s *site) balance() {
	s.t.Helper()
	stored, err := s.stored()
	if err != nil {
		s.t.Error(err)
	}
	for _, w := range s.writers {
		missing, repeated := w.judge(stored)
		if len(missing)+len(repeated) > 0 {
			s.t.Errorf("of %d lines of %s %d are missing (%s), %d are there more than once (%s)", w.lines, w.path, len(missing), some(missing), len(repeated), some(repeated))
		}
	}
	runs, err := ledger(s.ledger())
	if err != nil {
		s.t.Fatal(err)
	}
	faults, again, err := s.submitter.judge(s.t.Context(), runs)
	if err != nil {
		s.t.Fatal(err)
	}
	if len(faults) > 0 {
		s.t.Errorf("of %d tasks %d are not in order:\n%s", len(s.submitter.keys), len(faults), strings.ReplaceAll(some(faults), ", key", "\nkey"))
	}
	s.tally.set("runs that were repeated before they were acknowledged", again)
}

// hitAll: a schedule that has missed something proves nothing.
func (s *site) hitAll() {
	s.t.Helper()
	for _, what := range []string{"agent killed", "agent stopped", "swap", "plugin killed", "plugin stopped", "plugin replaced", "etcd killed", "etcd stopped"} {
		if s.tally.of(what) == 0 {
			s.t.Errorf("%s: not once", what)
		}
	}
}

func (s *site) summary() string {
	lines := 0
	for _, w := range s.writers {
		lines += w.lines
	}
	return fmt.Sprintf("%d lines, %d tasks, %s", lines, len(s.submitter.keys), s.tally.String())
}

// tell is for whoever looks for the reason of a failure.
func (s *site) tell() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.t.Logf("%s\n%s", s.summary(), strings.Join(s.notes, "\n"))
	for _, h := range s.hosts {
		if log, err := os.ReadFile(filepath.Join(h.dir, "agentd.log")); err == nil {
			const most = 200_000
			s.t.Logf("%s said:\n%s", h.id, log[max(0, len(log)-most):])
		}
	}
}
