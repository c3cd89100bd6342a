package admin

import (
	"bufio"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/agent/limit"
	"github.com/perennial-go/perennial/internal/certtest"
	"github.com/perennial-go/perennial/internal/waittest"
)

func waitFor(t testing.TB, what string, f func() bool) {
	t.Helper()
	waittest.Until(t, what, f)
}

func hostPort(t testing.TB, a net.Addr) (host, port string) {
	t.Helper()
	host, port, err := net.SplitHostPort(a.String())
	if err != nil {
		t.Fatal(err)
	}
	return host, port
}

func TestListenerThatStrangersReachStartsOnlyWithCredentials(t *testing.T) {
	ca := certtest.New(t, "ca")
	cert, key := serverFiles(t, ca)
	caFile := write(t, filepath.Join(t.TempDir(), "ca.pem"), ca.PEM())
	i := newIssuer(t)
	withTokens, _ := i.config(t)
	for name, c := range map[string]struct {
		cfg  Config
		says string // empty: it may
	}{
		"loopback":                     {Config{Address: "127.0.0.1:0"}, ""},
		"loopback of IPv6":             {Config{Address: "[::1]:0"}, ""},
		"localhost":                    {Config{Address: "localhost:0"}, ""},
		"every address":                {Config{Address: ":0"}, "can be reached from outside"},
		"every address, written out":   {Config{Address: "0.0.0.0:0"}, "can be reached from outside"},
		"a name that may be anything":  {Config{Address: "localhost.example.com:0"}, "can be reached from outside"},
		"TLS alone":                    {Config{Address: ":0", CertFile: cert, KeyFile: key}, "can be reached from outside"},
		"tokens in plain text":         {Config{Address: ":0", Tokens: withTokens.Tokens}, "can be reached from outside"},
		"TLS and tokens":               {Config{Address: ":0", CertFile: cert, KeyFile: key, Tokens: withTokens.Tokens}, ""},
		"TLS and certificates":         {Config{Address: ":0", CertFile: cert, KeyFile: key, ClientCAFile: caFile, Allow: []Grant{{"dns:a", Read}}}, ""},
		"certificates for nobody":      {Config{Address: ":0", CertFile: cert, KeyFile: key, ClientCAFile: caFile}, "grant roles"},
		"anyone may probe":             {Config{Address: ":0", CertFile: cert, KeyFile: key, Tokens: withTokens.Tokens, Allow: []Grant{{"anyone", Probe}}}, ""},
		"anyone may read":              {Config{Address: ":0", CertFile: cert, KeyFile: key, Tokens: withTokens.Tokens, Allow: []Grant{{"anyone", Read}}}, "probe there and no more"},
		"names without an authority":   {Config{Address: "127.0.0.1:0", Allow: []Grant{{"dns:a", Read}}}, "client CA"},
		"authority without TLS":        {Config{Address: "127.0.0.1:0", ClientCAFile: caFile, Allow: []Grant{{"dns:a", Read}}}, "need TLS"},
		"certificate without its key":  {Config{Address: "127.0.0.1:0", CertFile: cert}, "belong together"},
		"subjects without keys":        {Config{Address: "127.0.0.1:0", Allow: []Grant{{"sub:a", Read}}}, "JWKS"},
		"tokens of any audience":       {Config{Address: "127.0.0.1:0", Tokens: Tokens{JWKSFile: withTokens.Tokens.JWKSFile, Issuer: "i"}}, "audience"},
		"users on TCP":                 {Config{Address: "127.0.0.1:0", Allow: []Grant{{"uid:0", Read}}}, "Unix socket"},
		"a subject with two roles":     {Config{Address: "127.0.0.1:0", Allow: []Grant{{"anyone", Read}, {"anyone", Probe}}}, "one role"},
		"a role that there is not":     {Config{Address: "127.0.0.1:0", Allow: []Grant{{"anyone", 7}}}, "want probe"},
		"no port":                      {Config{Address: "127.0.0.1"}, "host:port"},
		"no address":                   {Config{}, "host:port"},
		"a path too long for a socket": {Config{Address: "unix:/" + strings.Repeat("x", 110)}, "shorter"},
	} {
		server, err := New(c.cfg)
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: got %v, want %q", name, err, c.says)
		}
		_ = server
	}
}

func TestGrantsAreReadStrictly(t *testing.T) {
	for _, good := range []string{"anyone=probe", "uri:spiffe://a/b?c=d=read", "dns:a.example=operate", "uid:0=read", "claim:sre=operate", "cn:John Doe=read"} {
		if g, err := ParseGrant(good); err != nil || g.Subject+"="+g.Role.String() != good {
			t.Errorf("%s: %+v, %v", good, g, err)
		}
	}
	for _, bad := range []string{"", "anyone", "anyone=none", "anyone=Read", "dns:=read", "dns:A.example=read", "uid:-1=read", "uid:01=read", "uid:x=read", "who:a=read", "everyone=read", "=read", "dns:" + strings.Repeat("a", 600) + "=read"} {
		if g, err := ParseGrant(bad); err == nil {
			t.Errorf("%q is taken for %+v", bad, g)
		}
	}
}

// TestSocketThatIsMoreOpenThanItsAddressIsNotServed: the service manager may
// hand over another than was meant.
func TestSocketThatIsMoreOpenThanItsAddressIsNotServed(t *testing.T) {
	server, err := New(Config{Address: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := server.Listen(func(o net.ListenConfig, _, network, _ string) (net.Listener, error) {
		return o.Listen(t.Context(), network, "0.0.0.0:0")
	})
	if err == nil || !strings.Contains(err.Error(), "not as closed") {
		t.Errorf("listens on %v, %v", ln, err)
	}
}

func TestWebPageCannotPassForALocalCaller(t *testing.T) {
	s := serve(t, Config{Address: "127.0.0.1:0", Allow: []Grant{{"anyone", Operate}}, Hosts: []string{"Agent1.example.com"}})
	_, port := hostPort(t, s.addr)
	for host, want := range map[string]int{
		"": 200, "localhost:" + port: 200, "LOCALHOST": 200, "127.0.0.1:" + port: 200, "127.8.9.1": 200, "[::1]:7071": 200, "agent1.example.com:80": 200,
		"evil.example": 421, "localhost.evil.example:" + port: 421, "127.0.0.1.evil.example": 421, "0.0.0.0:" + port: 421, "192.0.2.1": 421,
	} {
		if got, body := s.call(client{host: host}, "/livez"); got != want {
			t.Errorf("Host %q gets %d, want %d: %s", host, got, want, body)
		}
	}
	if got := s.refused(ReasonHost); got != 5 {
		t.Errorf("%d wrong hosts were counted, want 5", got)
	}
	for name, c := range map[string]struct {
		header http.Header
		want   int
	}{
		"no browser":               {nil, 200},
		"typed by hand":            {http.Header{"Sec-Fetch-Site": {"none"}}, 200},
		"page of the listener":     {http.Header{"Sec-Fetch-Site": {"same-origin"}, "Origin": {"http://127.0.0.1"}}, 200},
		"page of another site":     {http.Header{"Sec-Fetch-Site": {"cross-site"}}, 403},
		"page of another port":     {http.Header{"Sec-Fetch-Site": {"same-site"}}, 403},
		"old browser":              {http.Header{"Origin": {"http://evil.example"}}, 403},
		"old browser in a sandbox": {http.Header{"Origin": {"null"}}, 403},
	} {
		if got, body := s.call(client{header: c.header}, "/debug"); got != c.want {
			t.Errorf("%s gets %d, want %d: %s", name, got, c.want, body)
		}
	}
	if got := s.refused(ReasonOrigin); got != 4 {
		t.Errorf("%d cross-site calls were counted, want 4", got)
	}
}

func TestAnybodyOnLoopbackMayReadUnlessCredentialsAreConfigured(t *testing.T) {
	s := serve(t, Config{Address: "127.0.0.1:0"})
	s.answers(client{}, "/metrics", 200)
	s.answers(client{}, "/debug", 401)
	s.answers(client{}, "/nothing", 404)
	ca := certtest.New(t, "ca")
	cfg, _ := mutual(t, ca, ca, Grant{"dns:ops.example.com", Operate})
	cfg.Address = "127.0.0.1:0"
	s = serve(t, cfg)
	s.answers(client{tls: trusting(ca)}, "/livez", 401)
	s.answers(client{tls: trusting(ca)}, "/nothing", 401)
	s.answers(client{tls: holding(t, ca, ca, forClients(func(*x509.Certificate) {}))}, "/debug", 200)
}

func TestOneThatAsksTooMuchIsRefusedAndRecovers(t *testing.T) {
	s := serve(t, Config{Address: "127.0.0.1:0", Limits: limit.Limits{Rate: 5, Burst: 10}})
	counts := map[int]int{}
	for range 12 {
		got, _ := s.call(client{}, "/livez")
		counts[got]++
	}
	if counts[200] < 10 || counts[429] == 0 || counts[200]+counts[429] != 12 {
		t.Errorf("12 calls in a row got %v, want 10 answers and then 429", counts)
	}
	if s.refused("rate") != counts[429] {
		t.Errorf("%d refusals were counted, want %d", s.refused("rate"), counts[429])
	}
	waitFor(t, "the allowance has come back", func() bool { got, _ := s.call(client{}, "/livez"); return got == 200 })
}

// TestSlowReadersOfFiguresDoNotKeepProbesWaiting: each role has slots of its
// own.
func TestSlowReadersOfFiguresDoNotKeepProbesWaiting(t *testing.T) {
	s := serve(t, Config{Address: "127.0.0.1:0", Allow: []Grant{{"anyone", Operate}}})
	release, entered := make(chan struct{}), make(chan struct{}, maxOperating)
	if err := s.Handle("/slow", Operate, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})); err != nil {
		t.Fatal(err)
	}
	done := make(chan int, maxOperating)
	for range maxOperating {
		go func() { got, _ := s.call(client{}, "/slow"); done <- got }()
		<-entered
	}
	s.answers(client{}, "/slow", 503)
	s.answers(client{}, "/metrics", 200)
	s.answers(client{}, "/livez", 200)
	close(release)
	for range maxOperating {
		if got := <-done; got != 200 {
			t.Errorf("a call in progress got %d", got)
		}
	}
	if s.refused("busy") != 1 {
		t.Errorf("%d were counted as too many, want 1", s.refused("busy"))
	}
}

func TestWhatIsTooLargeTooSlowOrNoHTTPIsCutOffAndCounted(t *testing.T) {
	s := serve(t, Config{Address: "127.0.0.1:0", Limits: limit.Limits{HeaderTime: time.Second, ReadTime: 2 * time.Second}})
	for name, c := range map[string]struct{ send, want string }{
		"huge header":        {"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("x", 30<<10) + "\r\n\r\n", "431"},
		"header without end": {"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: ", ""},
		"HTTP/2":             {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400"},
		"no HTTP":            {"\x16\x03\x01 hello\r\n\r\n", "400"},
		"two lengths":        {"POST /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "400"},
		"large body":         {"POST /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n", "413"},
		"body without end":   {"POST /livez HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n20000\r\n" + strings.Repeat("x", 0x20000) + "\r\n", "413"},
		"slow body":          {"POST /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nx", "413"},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", s.addr.String())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(conn, c.send) // it may be cut off while it is sent
			line, _ := bufio.NewReader(conn).ReadString('\n')
			if c.want == "" && line != "" || c.want != "" && !strings.Contains(line, " "+c.want+" ") {
				t.Errorf("answers %q, want %q", line, c.want)
			}
		})
	}
	waitFor(t, "all are counted", func() bool { return s.refused("malformed") == 4 && s.refused("size") == 2 })
}

func TestOnePeerCannotHoldAllConnections(t *testing.T) {
	s := serve(t, Config{Address: "127.0.0.1:0", Limits: limit.Limits{ConnsPerPeer: 3}})
	held := make([]net.Conn, 3)
	for n := range held {
		var err error
		if held[n], err = net.Dial("tcp", s.addr.String()); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = held[n].Close() }()
	}
	waitFor(t, "connections beyond the limit are closed", func() bool {
		conn, err := net.Dial("tcp", s.addr.String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		_ = conn.SetDeadline(time.Now().Add(100 * time.Millisecond))
		_, err = conn.Read(make([]byte, 1))
		return errors.Is(err, io.EOF) && s.refused("connections") > 0
	})
}

func TestUnixSocketIsForItsOwnerAlone(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a Unix socket has no mode there")
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "admin.sock")
	s := serve(t, Config{Address: "unix:" + path})
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the socket has mode %v, %v; want 0600", info.Mode(), err)
	}
	who := s.answers(client{host: "any.example"}, "/debug", 200)
	if want := fmt.Sprintf("uid:%d operate", os.Geteuid()); runtime.GOOS == "linux" && who != want {
		t.Errorf("the caller is %q, want %q", who, want)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	server, err := New(Config{Address: "unix:" + filepath.Join(dir, "other.sock")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := server.Listen(plainListen); err == nil || !strings.Contains(err.Error(), "0777") {
		t.Errorf("in a directory for everybody: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "other.sock")); !os.IsNotExist(err) {
		t.Errorf("the socket was made all the same: %v", err)
	}
}
