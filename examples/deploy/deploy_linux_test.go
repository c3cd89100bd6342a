// Package deploy_test brings up the deployment of this directory on loopback.
package deploy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/waittest"
)

// site is the hosts of the deployment.
type site struct {
	t                *testing.T
	dir              string
	agentd, etcd     string // executables
	certs, passwords string
	addresses        *strings.Replacer // of README.md to loopback
	endpoints        string
	running          map[string]*exec.Cmd // by host
	admin            map[string]string    // addresses of agents
}

// hosts of etcd, and agents; a host is a directory here.
var (
	members = []string{"etcd1", "etcd2", "etcd3"} //nolint:gochecknoglobals // never written to
	agents  = []string{"a1", "a2"}                //nolint:gochecknoglobals // never written to
)

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir(), running: map[string]*exec.Cmd{}, admin: map[string]string{}}
	s.certs, s.passwords = filepath.Join(s.dir, "certs"), filepath.Join(s.dir, "passwords")
	s.agentd, s.etcd = filepath.Join(s.dir, "agentd"), filepath.Join(s.dir, "etcd")
	s.build(map[string]string{s.agentd: "../agentd", s.etcd: "go.etcd.io/etcd/server/v3"})
	var pairs, endpoints []string
	for i := range members {
		client, peer := s.free(), s.free()
		pairs = append(pairs, fmt.Sprintf("10.0.0.%d:2379", i+1), client, fmt.Sprintf("10.0.0.%d:2380", i+1), peer)
		endpoints = append(endpoints, "https://"+client)
	}
	s.addresses, s.endpoints = strings.NewReplacer(pairs...), strings.Join(endpoints, ",")
	t.Cleanup(func() {
		for _, id := range agents { // they take their leave of etcd
			if s.running[id] != nil {
				s.stop(id)
			}
		}
		for host := range s.running {
			s.kill(host)
		}
		if t.Failed() {
			for _, host := range slices.Concat(members, agents) {
				text, _ := os.ReadFile(filepath.Join(s.dir, host+".log"))
				t.Logf("the end of what %s said:\n%s", host, text[max(0, len(text)-3000):])
			}
		}
	})
	return s
}

// build makes executables side by side, without what debuggers need, which is
// most of the linker's work.
func (s *site) build(packages map[string]string) {
	s.t.Helper()
	var builds sync.WaitGroup
	for path, pkg := range packages {
		builds.Go(func() {
			if out, err := exec.Command("go", "build", "-race=false", "-ldflags=-s -w", "-o", path, pkg).CombinedOutput(); err != nil {
				s.t.Errorf("build %s: %v\n%s", pkg, err, out)
			}
		})
	}
	builds.Wait()
	if s.t.Failed() {
		s.t.FailNow()
	}
}

func (s *site) free() string {
	s.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// env is an environment file of this directory, made one of host.
func (s *site) env(file, host string, change map[string]string) []string {
	s.t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		s.t.Fatal(err)
	}
	here := filepath.Join(s.dir, host) + "/"
	var env []string
	for line := range strings.Lines(string(text)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok || strings.HasPrefix(name, "#") {
			continue
		}
		if other, set := change[name]; set {
			value = other
			delete(change, name)
		}
		value = s.addresses.Replace(value)
		for _, dir := range []string{"/etc/etcd/", "/etc/agentd/", "/var/lib/"} {
			value = strings.Replace(value, dir, here, 1)
		}
		env = append(env, name+"="+value)
	}
	if len(change) > 0 {
		s.t.Fatalf("%s does not set %v", file, change)
	}
	return env
}

// install puts a certificate and the authorities on a host.
func (s *site) install(host, cert, as string) {
	s.t.Helper()
	here := filepath.Join(s.dir, host)
	if err := os.MkdirAll(here, 0o700); err != nil {
		s.t.Fatal(err)
	}
	for from, to := range map[string]string{"ca.pem": "ca.pem", cert: as} {
		data, err := os.ReadFile(filepath.Join(s.certs, from))
		if err == nil {
			err = os.WriteFile(filepath.Join(here, to+".new"), data, 0o600)
		}
		if err == nil {
			err = os.Rename(filepath.Join(here, to+".new"), filepath.Join(here, to))
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *site) installAll() {
	s.t.Helper()
	for _, m := range members {
		s.install(m, "member-"+m+".pem", "member.pem")
	}
	for _, a := range agents {
		s.install(a, "agent-"+a+".pem", "agent.pem")
	}
}

func (s *site) start(host string, env []string, program string, args ...string) {
	s.t.Helper()
	log, err := os.OpenFile(filepath.Join(s.dir, host+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(program, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), env...), log, log
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.running[host] = cmd
}

func (s *site) stop(host string) {
	s.t.Helper()
	cmd := s.running[host]
	delete(s.running, host)
	_ = cmd.Process.Signal(syscall.SIGTERM)
	late := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	_ = cmd.Wait() // what it said is in its log
}

// kill is for members: in an orderly end they wait for their clients.
func (s *site) kill(host string) {
	s.t.Helper()
	cmd := s.running[host]
	delete(s.running, host)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

func (s *site) startMember(i int) {
	s.t.Helper()
	own := fmt.Sprintf("https://10.0.0.%d:", i+1)
	s.start(members[i], s.env("etcd.env", members[i], map[string]string{
		"ETCD_NAME":               members[i],
		"ETCD_LISTEN_CLIENT_URLS": own + "2379", "ETCD_ADVERTISE_CLIENT_URLS": own + "2379",
		"ETCD_LISTEN_PEER_URLS": own + "2380", "ETCD_INITIAL_ADVERTISE_PEER_URLS": own + "2380",
	}), s.etcd)
}

// restartMembers one by one, each once the one before serves again.
func (s *site) restartMembers() {
	s.t.Helper()
	for i := range members {
		s.restartMember(i)
	}
}

func (s *site) restartMember(i int) {
	s.t.Helper()
	s.kill(members[i])
	s.startMember(i)
	s.waitForMember(i)
}

// waitForMember waits until a member answers, with a quorum.
func (s *site) waitForMember(i int) {
	s.t.Helper()
	endpoint := strings.Split(s.endpoints, ",")[i]
	waittest.Nil(s.t, members[i]+" serves", func() error {
		_, err := s.call("root", "fleet", "--timeout", "2s", "--etcd", endpoint)
		return err
	})
}

func (s *site) startAgent(id string) {
	s.t.Helper()
	s.admin[id] = s.free()
	s.start(id, s.env("agentd.env", id, map[string]string{
		"AGENTD_ID": id, "AGENTD_LISTEN": s.free(), "AGENTD_ADMIN": s.admin[id],
	}), s.agentd, "run")
}

// call runs a command as a user, by certificate.
func (s *site) call(user string, args ...string) (string, error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), waittest.Patience)
	defer cancel()
	cert := filepath.Join(s.certs, user+".pem")
	flags := []string{"--etcd-ca", filepath.Join(s.certs, "ca.pem"), "--etcd-cert", cert, "--etcd-key", cert}
	if !slices.Contains(args, "--etcd") {
		flags = append(flags, "--etcd", s.endpoints)
	}
	return s.run(ctx, append(args, flags...)...)
}

func (s *site) run(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, s.agentd, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("agentd %s: %w: %s", strings.Join(args[:2], " "), err, errs.String())
	}
	return out.String(), nil
}

func (s *site) mustRun(args ...string) string {
	s.t.Helper()
	out, err := s.run(s.t.Context(), args...)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

func (s *site) mustCall(user string, args ...string) string {
	s.t.Helper()
	out, err := s.call(user, args...)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

func (s *site) ready(id string) error {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get("http://" + s.admin[id] + "/readyz")
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return errors.New(res.Status)
	}
	return nil
}

// follows publishes a document and waits until every agent has it in force.
func (s *site) follows(text string) {
	s.t.Helper()
	file := filepath.Join(s.dir, "document.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	var revision int64
	if _, err := fmt.Sscanf(s.mustCall("operator", "config", "put", "global", file), "published global as revision %d", &revision); err != nil {
		s.t.Fatal(err)
	}
	waittest.Nil(s.t, "all agents have the configuration", func() error {
		list, err := s.call("operator", "fleet", "-o", "json")
		if err != nil {
			return err
		}
		var entries []struct {
			ID     string
			Status struct {
				Config struct{ Running int64 }
			}
		}
		if err := json.Unmarshal([]byte(list), &entries); err != nil {
			return err
		}
		current := 0
		for _, e := range entries {
			if e.Status.Config.Running >= revision {
				current++
			}
		}
		if current != len(agents) {
			return fmt.Errorf("%d of %d agents have revision %d: %s", current, len(agents), revision, list)
		}
		return nil
	})
}

// TestEveryCertificateAndTheAuthorityAreReplacedWhileTheFleetRuns goes through
// README.md.
func TestEveryCertificateAndTheAuthorityAreReplacedWhileTheFleetRuns(t *testing.T) {
	s := newSite(t)
	create := []string{"etcd", "certs", "create", "--dir", s.certs, "--user", "root", "--user", "operator"}
	for _, m := range members {
		create = append(create, "--member", m+"=127.0.0.1")
	}
	for _, a := range agents {
		create = append(create, "--agent", a)
	}
	s.mustRun(create...)
	if out := s.mustRun(create...); !strings.Contains(out, "nothing to do") {
		t.Errorf("the second run says %q", out)
	}
	s.installAll()
	for i := range members {
		s.startMember(i)
	}
	for i := range members {
		s.waitForMember(i)
	}
	s.mustCall("root", "etcd", "bootstrap", "--certificates", "--passwords", s.passwords, "--agent", strings.Join(agents, ","))
	if out, err := s.call("agent-a1", "fleet"); err == nil {
		t.Errorf("an agent's certificate lists the fleet:\n%s", out)
	}
	for _, a := range agents {
		s.startAgent(a)
	}
	for _, a := range agents {
		waittest.Nil(t, a+" is ready", func() error { return s.ready(a) })
	}
	s.follows("log: {level: debug}")

	// Certificates alone need no restart; one shows that they are in use.
	s.mustRun("etcd", "certs", "renew", "--dir", s.certs, "--within", "87600h")
	s.installAll()
	s.restartMember(0)
	s.follows("log: {level: info}")

	old := filepath.Join(s.dir, "old.pem")
	data, err := os.ReadFile(filepath.Join(s.certs, "operator.pem"))
	if err == nil {
		err = os.WriteFile(old, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.mustRun("etcd", "certs", "renew", "--dir", s.certs, "--new-authority")
	if _, err := s.run(t.Context(), "etcd", "certs", "renew", "--dir", s.certs, "--drop-old-authority"); err == nil {
		t.Error("an authority was dropped whose certificates are in use")
	}
	s.installAll()
	s.restartMembers()
	s.follows("log: {level: debug}")
	s.mustRun("etcd", "certs", "renew", "--dir", s.certs, "--within", "87600h")
	s.installAll()
	s.follows("log: {level: info}")
	s.mustRun("etcd", "certs", "renew", "--dir", s.certs, "--drop-old-authority")
	s.installAll()
	s.restartMembers()
	s.follows("log: {level: debug}")

	for _, a := range agents {
		waittest.Nil(t, a+" is ready", func() error { return s.ready(a) })
		text, err := os.ReadFile(filepath.Join(s.dir, a+".log"))
		if err != nil || strings.Contains(string(text), "lease lost") {
			t.Errorf("%s lost its registration, or says nothing (%v)", a, err)
		}
	}
	if _, err := s.run(t.Context(), "fleet", "--timeout", "1s", "--etcd", s.endpoints, "--etcd-ca", filepath.Join(s.certs, "ca.pem"), "--etcd-cert", old, "--etcd-key", old); err == nil || !strings.Contains(err.Error(), "refuses the client certificate") {
		t.Errorf("a certificate of the authority that was dropped: want a refusal, got %v", err)
	}
}
