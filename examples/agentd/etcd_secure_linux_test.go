package main

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/certtest"
	"github.com/perennial-go/perennial/internal/etcdtest"
	"github.com/perennial-go/perennial/internal/waittest"
)

// secured is an etcd with TLS on both sides and the user root, and an agent's
// files for it.
type secured struct {
	t                       *testing.T
	etcd                    *etcdtest.Server
	servers, clients        *certtest.Authority
	ca, cert, key, password string
}

const rootPassword = "a very secret word of root"

func newSecured(t *testing.T) *secured {
	t.Helper()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	s := &secured{
		t: t, servers: certtest.New(t, "servers"), clients: certtest.New(t, "clients"),
		ca: at("ca.pem"), cert: at("cert.pem"), key: at("key.pem"), password: at("password"),
	}
	s.etcd = etcdtest.StartWith(t, etcdtest.Options{
		Authority: s.servers, ClientAuthority: s.clients, Auth: &etcdtest.Auth{Password: rootPassword},
	})
	cert, key := s.clients.Issue(t, "a1")
	s.write(s.ca, s.servers.PEM())
	s.write(s.cert, cert)
	s.write(s.key, key)
	s.write(s.password, []byte(rootPassword+"\n"))
	return s
}

// write replaces a file as a tool for certificates does.
func (s *secured) write(path string, data []byte) {
	s.t.Helper()
	err := os.WriteFile(path+".new", data, 0o600)
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *secured) flags() []string {
	return []string{
		"--etcd", s.etcd.URL(), "--etcd-ca", s.ca, "--etcd-cert", s.cert, "--etcd-key", s.key,
		"--etcd-user", "root", "--etcd-password-file", s.password,
	}
}

// page is what the agent answers.
func page(t *testing.T, url string) string {
	t.Helper()
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get(url)
	if err != nil {
		return ""
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestAgentStartsWithTheWrongAuthorityAndJoinsWhenItIsPutRight: the first
// start refuses, a later one goes on from what the agent knows; each says why,
// and the right file is enough to mend it.
func TestAgentStartsWithTheWrongAuthorityAndJoinsWhenItIsPutRight(t *testing.T) {
	t.Parallel()
	e, s := newSecured(t), newSite(t)
	s.release("1.0.0")
	wrong := certtest.New(t, "another").PEM()
	e.write(e.ca, wrong)
	agentd(t, s.runArgs(e.flags()...)...).fails(t, 1, "no last-known-good configuration", e.ca, "CN=servers", "--etcd-ca")

	e.write(e.ca, e.servers.PEM())
	p := s.start(e.flags()...)
	agentd(t, append([]string{"config", "put", "global", writeFile(t, "log: {level: debug}")}, e.flags()...)...).ok(t)
	waittest.Until(t, "the configuration is in force", func() bool { i := s.mustInfo(); return i.ConfigOrigin == "etcd" && i.ConfigRevision > 0 })
	metrics := page(t, s.url(s.admin, "/metrics"))
	for _, m := range []string{
		`perennial_etcd_requests_total{code="OK",method="KV/Txn"}`, "perennial_etcd_request_duration_seconds_bucket",
		"perennial_etcd_connections 1", "perennial_etcd_connect_attempts_total", `perennial_etcd_logins_total{result="ok"}`,
		`perennial_etcd_leases_total{event="granted"} 1`, "perennial_etcd_certificate_files_ok 1", "perennial_etcd_client_certificate_expiry_timestamp_seconds 1",
		"perennial_etcd_sent_bytes_total", "perennial_etcd_received_bytes_total",
	} {
		if !strings.Contains(metrics, m) {
			t.Errorf("/metrics lacks %s", m)
		}
	}
	p.stop()

	e.write(e.ca, wrong)
	p = s.launch(e.flags()...)
	waittest.Until(t, "the agent serves without etcd", func() bool { _, err := s.info(); return err == nil })
	if i := s.mustInfo(); i.ConfigOrigin == "etcd" || i.ConfigRevision == 0 {
		t.Errorf("without etcd the configuration is %s's of revision %d, want the last good one", i.ConfigOrigin, i.ConfigRevision)
	}
	waittest.Until(t, "the log and the health say why", func() bool {
		return strings.Contains(p.logged(), "CN=servers") && strings.Contains(page(t, s.url(s.admin, "/readyz?verbose")), "CN=servers")
	})
	if status(s.url(s.admin, "/livez")) != http.StatusOK {
		t.Error("an agent without etcd is not live")
	}
	e.write(e.ca, e.servers.PEM())
	waittest.Until(t, "the agent has joined", func() bool { return status(s.url(s.admin, "/readyz")) == http.StatusOK })
	if i := s.mustInfo(); i.State != "running" {
		t.Errorf("the agent is %s: %s", i.State, i.Reason)
	}
}

// TestKeysPasswordsAndTokensAreShownNowhere looks through everything that a
// real run prints and answers, at the level debug, and with files that are
// broken on the way.
func TestKeysPasswordsAndTokensAreShownNowhere(t *testing.T) {
	t.Parallel()
	e, s := newSecured(t), newSite(t)
	s.release("1.0.0")
	key, err := os.ReadFile(e.key)
	if err != nil {
		t.Fatal(err)
	}
	p := s.start(append(e.flags(), "--log-level", "debug", "--log-format", "json")...)
	var seen []string
	call := func(args ...string) {
		r := agentd(t, args...)
		seen = append(seen, r.stdout, r.stderr)
	}
	call(append([]string{"config", "put", "global", writeFile(t, "log: {level: debug}")}, e.flags()...)...)
	call(append([]string{"fleet", "-o", "json"}, e.flags()...)...)
	call(append([]string{"fleet"}, e.flags()...)...)
	call("status", "--state-dir", s.state, "-o", "json")

	// What is wrong gets into errors.
	e.write(e.password, []byte("another very secret word\n"))
	call(append([]string{"fleet", "--timeout", "2s"}, e.flags()...)...)
	e.write(e.key, append([]byte("x"), key[:len(key)/2]...))
	call(append([]string{"fleet", "--timeout", "2s"}, e.flags()...)...)
	e.etcd.Restart() // the agent connects and logs in anew
	waittest.Until(t, "the agent tells of the broken key and of the refused password", func() bool {
		text := p.logged()
		return strings.Contains(text, e.key) && strings.Contains(text, e.password)
	})
	seen = append(seen, page(t, s.url(s.admin, "/readyz?verbose")), page(t, s.url(s.admin, "/metrics")))
	e.write(e.key, key)
	e.write(e.password, []byte(rootPassword+"\n"))
	waittest.Until(t, "the agent is ready again", func() bool { return status(s.url(s.admin, "/readyz")) == http.StatusOK })
	seen = append(seen, page(t, s.url(s.admin, "/readyz?verbose")), page(t, s.url(s.admin, "/metrics")), page(t, s.url(s.listen, "/v1/info")))
	p.stop()
	seen = append(seen, p.logged())

	all := strings.Join(seen, "\n")
	secrets := []string{rootPassword, "another very secret word", "PRIVATE KEY"}
	for line := range strings.SplitSeq(string(key), "\n") {
		if len(line) > 20 && !strings.HasPrefix(line, "-") {
			secrets = append(secrets, line[:20])
		}
	}
	for _, secret := range secrets {
		if i := strings.Index(all, secret); i >= 0 {
			t.Errorf("%q is shown: %q", secret, all[max(0, i-100):min(len(all), i+100)])
		}
	}
	if token := regexp.MustCompile(`\b[A-Za-z]{16}\.[0-9]+\b`).FindString(all); token != "" {
		t.Errorf("a token of etcd is shown: %q", token)
	}
	for _, told := range []string{e.key, e.password, `"level":"DEBUG"`} {
		if !strings.Contains(all, told) {
			t.Errorf("%q is not among what was looked through, so that the test looks at too little", told)
		}
	}
}

// TestBootstrapWithAnotherCertificateThanRootsLocksNobodyOut: once
// authentication is on, nobody could turn it off again.
func TestBootstrapWithAnotherCertificateThanRootsLocksNobodyOut(t *testing.T) {
	t.Parallel()
	servers, clients := certtest.New(t, "servers"), certtest.New(t, "clients")
	etcd := etcdtest.StartWith(t, etcdtest.Options{Authority: servers, ClientAuthority: clients})
	dir := t.TempDir()
	s := &secured{t: t, ca: filepath.Join(dir, "ca"), cert: filepath.Join(dir, "cert"), key: filepath.Join(dir, "key")}
	s.write(s.ca, servers.PEM())
	args := []string{"etcd", "bootstrap", "--etcd", etcd.URL(), "--etcd-ca", s.ca, "--etcd-cert", s.cert, "--etcd-key", s.key,
		"--certificates", "--passwords", filepath.Join(dir, "passwords"), "--agent", "a1"}
	for _, name := range []string{"somebody", "root"} {
		cert, key := clients.Issue(t, name)
		s.write(s.cert, cert)
		s.write(s.key, key)
		if name == "root" {
			agentd(t, args...).ok(t)
			agentd(t, args...).ok(t)
			// It would get a password that etcd never takes.
			agentd(t, append([]string{"etcd", "rotate-password", "--passwords", filepath.Join(dir, "passwords"), "agent-a1"}, args[2:10]...)...).
				fails(t, 1, "agent-a1 has no password", "certs renew")
			if files, err := os.ReadDir(filepath.Join(dir, "passwords")); err != nil || len(files) != 1 {
				t.Errorf("want root's password alone, found %v, %v", files, err)
			}
			continue
		}
		agentd(t, args...).fails(t, 1, "turned off again", "--client-cert-auth", "common name root")
		if _, err := etcd.Client(t).Get(t.Context(), "/x"); err != nil {
			t.Errorf("authentication is on: %v", err)
		}
	}
}
