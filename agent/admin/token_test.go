package admin

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
)

func (i *issuer) config(tb testing.TB) (cfg Config, file string) {
	tb.Helper()
	file = write(tb, filepath.Join(tb.TempDir(), "jwks.json"), i.jwks(tb))
	return Config{
		Address: "127.0.0.1:0",
		Tokens:  Tokens{JWKSFile: file, Issuer: "https://issuer.example", Audience: "agents"},
	}, file
}

func TestTokenGivesTheRoleOfItsClaimAndNoMore(t *testing.T) {
	i := newIssuer(t)
	cfg, _ := i.config(t)
	s := serve(t, cfg)
	for token, want := range map[string][3]int{
		i.token(t, claims("probe", nil)):                                                                        {200, 403, 403},
		i.token(t, claims([]string{"probe", "read", "of another service"}, nil)):                                {200, 200, 403},
		sign(t, jose.EdDSA, i.ed, "ed", nil, claims("operate", map[string]any{"aud": []string{"x", "agents"}})): {200, 200, 200},
		i.token(t, claims("admin", nil)):                                                                        {403, 403, 403},
		i.token(t, claims(nil, map[string]any{"perennial_role": nil})):                                          {403, 403, 403},
	} {
		for n, path := range []string{"/livez", "/metrics", "/debug"} {
			s.answers(withToken(token), path, want[n])
		}
	}
	s.answers(client{}, "/livez", 401)
	if got := s.refused(ReasonCredentials); got != 1 {
		t.Errorf("%d calls without credentials were counted, want 1", got)
	}
}

func TestGrantsToTokensReplaceTheRolesThatStandForThemselves(t *testing.T) {
	i := newIssuer(t)
	cfg, _ := i.config(t)
	cfg.Tokens.RoleClaim = "groups"
	cfg.Allow = []Grant{{"sub:backup", Read}, {"claim:sre", Operate}}
	s := serve(t, cfg)
	s.answers(withToken(i.token(t, claims(nil, map[string]any{"sub": "backup"}))), "/metrics", 200)
	s.answers(withToken(i.token(t, claims(nil, map[string]any{"groups": []string{"dev", "sre"}}))), "/debug", 200)
	s.answers(withToken(i.token(t, claims("operate", map[string]any{"groups": "operate"}))), "/livez", 403)
}

// TestTokenTrapIsRefused: each differs from a good token in one thing.
func TestTokenTrapIsRefused(t *testing.T) {
	i := newIssuer(t)
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	of, err := rsa.GenerateKey(rand.Reader, minRSABits)
	if err != nil {
		t.Fatal(err)
	}
	i.keys = append(i.keys, jose.JSONWebKey{Key: &of.PublicKey, KeyID: "rs", Algorithm: "RS256"})
	public, err := x509.MarshalPKIXPublicKey(&i.ec.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	good := i.token(t, claims("operate", nil))
	parts := strings.Split(good, ".")
	b64 := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	changed := func(change map[string]any) string { return i.token(t, claims("operate", change)) }
	with := func(header map[jose.HeaderKey]any) string {
		return sign(t, jose.ES256, i.ec, "ec", header, claims("operate", nil))
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	ago := func(d time.Duration) int64 { return time.Now().Add(-d).Unix() }
	asJSON := `{"payload":"` + parts[1] + `","signatures":[{"protected":"` + parts[0] + `","signature":"` + parts[2] + `"},{"protected":"` + parts[0] + `","signature":"` + parts[2] + `"}]}`
	embedded, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: other}, (&jose.SignerOptions{EmbedJWK: true}).WithHeader("kid", "ec"))
	if err != nil {
		t.Fatal(err)
	}
	embeds := compact(t, embedded, payload)
	traps := map[string]string{
		"alg none":                        b64(`{"alg":"none","kid":"ec"}`) + "." + parts[1] + ".",
		"alg none with a signature":       b64(`{"alg":"None","kid":"ec"}`) + "." + parts[1] + "." + parts[2],
		"HS256 with the public key":       sign(t, jose.HS256, public, "ec", nil, claims("operate", nil)),
		"another algorithm of the key":    sign(t, jose.EdDSA, i.ed, "ec", nil, claims("operate", nil)),
		"another padding of the key":      sign(t, jose.PS256, of, "rs", nil, claims("operate", nil)),
		"no kid":                          sign(t, jose.ES256, i.ec, "", nil, claims("operate", nil)),
		"unknown kid":                     sign(t, jose.ES256, i.ec, "none", nil, claims("operate", nil)),
		"key for encryption":              sign(t, jose.ES256, i.ec, "enc", nil, claims("operate", nil)),
		"signed by another key":           sign(t, jose.ES256, other, "ec", nil, claims("operate", nil)),
		"brings its own key":              embeds,
		"expired":                         changed(map[string]any{"exp": ago(Leeway + 5*time.Second)}),
		"never expires":                   changed(map[string]any{"exp": nil}),
		"expires when numbers end":        changed(map[string]any{"exp": json.Number("1e30")}),
		"expires at a string":             changed(map[string]any{"exp": "tomorrow"}),
		"not valid yet":                   changed(map[string]any{"nbf": ago(-Leeway - 5*time.Second)}),
		"issued in the future":            changed(map[string]any{"iat": ago(-Leeway - 5*time.Second)}),
		"another audience":                changed(map[string]any{"aud": "billing"}),
		"no audience":                     changed(map[string]any{"aud": nil}),
		"audience of a wrong type":        changed(map[string]any{"aud": map[string]any{"agents": true}}),
		"another issuer":                  changed(map[string]any{"iss": "https://issuer.example.evil"}),
		"no issuer":                       changed(map[string]any{"iss": nil}),
		"role that is a number":           changed(map[string]any{"perennial_role": 3}),
		"role that is an object":          changed(map[string]any{"perennial_role": map[string]any{"operate": true}}),
		"roles of which one is no string": changed(map[string]any{"perennial_role": []any{"operate", 1}}),
		"roles of which one is null":      changed(map[string]any{"perennial_role": []any{"operate", nil}}),
		"role that is null":               changed(map[string]any{"perennial_role": json.RawMessage("null")}),
		"claim twice":                     sign(t, jose.ES256, i.ec, "ec", nil, json.RawMessage(`{"iss":"x",`+string(payload[1:]))),
		"crit that nobody knows":          with(map[jose.HeaderKey]any{"crit": []string{"exp"}, "exp": 1}),
		"crit that the library knows":     with(map[jose.HeaderKey]any{"crit": []string{"b64"}, "b64": true}),
		"two signatures":                  asJSON,
		"signature cut off":               parts[0] + "." + parts[1] + ".",
		"payload changed":                 parts[0] + "." + b64(strings.Replace(string(payload), "ops", "cto", 1)) + "." + parts[2],
		"a fourth part":                   good + ".x",
		"very long":                       good + strings.Repeat("A", maxToken),
		"two tokens":                      good + ", " + good,
		"nothing":                         "",
	}
	cfg, _ := i.config(t)
	var log bytes.Buffer
	cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
	s := serve(t, cfg)
	s.answers(withToken(good), "/debug", 200)
	s.answers(withToken(sign(t, jose.RS256, of, "rs", nil, claims("operate", nil))), "/debug", 200)
	for name, token := range traps {
		status, body := s.call(withToken(token), "/debug")
		if status != 401 {
			t.Errorf("%s: %d %s", name, status, body)
		}
		// Not only because the key is of another kind.
		if strings.HasPrefix(name, "HS256") && !strings.Contains(body, `"HS256" does not count`) {
			t.Errorf("%s is refused for %s", name, body)
		}
	}
	if got := s.refused(ReasonToken); got != len(traps) {
		t.Errorf("%d refusals were counted, want %d", got, len(traps))
	}
	for name, header := range map[string][]string{
		"another scheme": {"Basic " + good}, "no scheme": {good}, "two headers": {"Bearer " + good, "Bearer " + good}, "empty": {""},
	} {
		if status, body := s.call(client{header: http.Header{"Authorization": header}}, "/debug"); status != 401 {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	for _, part := range parts {
		if text := log.String(); strings.Contains(text, part) || strings.Contains(text, b64("agents")) {
			t.Errorf("the log shows a part of the token:\n%s", text)
		}
	}
	if n := strings.Count(log.String(), "\n"); n == 0 || n > 15 {
		t.Errorf("%d lines were logged of %d refusals, want a few", n, len(traps))
	}
}

// TestClocksMayDifferByTheLeewayAndNoMore: what is refused just beyond it is in
// the table of traps.
func TestClocksMayDifferByTheLeeway(t *testing.T) {
	i := newIssuer(t)
	cfg, _ := i.config(t)
	s := serve(t, cfg)
	for claim, off := range map[string]time.Duration{"exp": 5*time.Second - Leeway, "nbf": Leeway - 5*time.Second, "iat": Leeway - 5*time.Second} {
		s.answers(withToken(i.token(t, claims("read", map[string]any{claim: time.Now().Add(off).Unix()}))), "/metrics", 200)
	}
}

func TestKeySetThatIsDangerousIsRefusedWhole(t *testing.T) {
	i := newIssuer(t)
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	set := func(keys ...jose.JSONWebKey) string {
		data, err := json.Marshal(jose.JSONWebKeySet{Keys: append([]jose.JSONWebKey{i.keys[0]}, keys...)})
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	for name, c := range map[string]struct{ text, says string }{
		"private key":        {set(jose.JSONWebKey{Key: i.ec, KeyID: "p"}), "private key"},
		"symmetric key":      {set(jose.JSONWebKey{Key: []byte("0123456789abcdef0123456789abcdef"), KeyID: "s"}), "symmetric"},
		"weak RSA key":       {set(jose.JSONWebKey{Key: &weak.PublicKey, KeyID: "w"}), "1024 bits"},
		"kid twice":          {set(jose.JSONWebKey{Key: i.keys[1].Key, KeyID: "ec"}), "occurs twice"},
		"key without a kid":  {set(jose.JSONWebKey{Key: i.keys[1].Key}), "no kid"},
		"no key":             {`{"keys":[]}`, "found none"},
		"only for other use": {`{"keys":[` + mustJSON(t, i.keys[2]) + `]}`, "found none"},
		"member twice":       {`{"keys":[],"keys":[]}`, "twice"},
		"no set":             {mustJSON(t, i.keys[0]), "found none"},
		"half":               {set()[:40], "JSON"},
	} {
		if _, err := parseKeySet([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: want an error that says %q, got %v", name, c.says, err)
		}
	}
	keys, err := parseKeySet([]byte(`{"keys":[{"kty":"LATER","kid":"l"},` + mustJSON(t, i.keys[0]) + `]}`))
	if err != nil || len(keys) != 1 {
		t.Errorf("a set with a key of a later kind: %v, %v; want the other key", keys, err)
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestKeyThatIsTakenOutOfTheSetCountsNoMore, without a restart; and a file that
// is half written takes nobody's access away.
func TestKeyThatIsTakenOutOfTheSetCountsNoMore(t *testing.T) {
	i := newIssuer(t)
	cfg, file := i.config(t)
	s := serve(t, cfg)
	old, later := i.token(t, claims("read", nil)), sign(t, jose.EdDSA, i.ed, "ed", nil, claims("read", nil))
	whole := i.jwks(t)
	write(t, file, whole[:len(whole)/2])
	s.answers(withToken(old), "/metrics", 200)
	i.keys = i.keys[1:]
	write(t, file, i.jwks(t))
	s.answers(withToken(old), "/metrics", 401)
	s.answers(withToken(later), "/metrics", 200)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	s.answers(withToken(later), "/metrics", 200)
}

func FuzzAuthorization(f *testing.F) {
	i := newIssuer(f)
	cfg, _ := i.config(f)
	tokens, err := openTokens(cfg.Tokens)
	if err != nil {
		f.Fatal(err)
	}
	good := i.token(f, claims("operate", nil))
	f.Add("Bearer " + good)
	f.Add("bearer " + strings.ToUpper(good))
	f.Add("Bearer eyJhbGciOiJub25lIn0.e30.")
	f.Add("Basic YTpi")
	f.Fuzz(func(t *testing.T, header string) {
		token, err := bearer(http.Header{"Authorization": {header}})
		if err != nil {
			return
		}
		if token == "" || len(token) > maxToken || strings.ContainsAny(token, " ,") {
			t.Fatalf("%q is taken for a token", token)
		}
		// Base64 has bits to spare at its end; the signed text must be the same.
		if _, err := tokens.subjects(token, time.Now()); err == nil && token[:strings.LastIndexByte(token, '.')] != good[:strings.LastIndexByte(good, '.')] {
			t.Fatalf("the token %q counts, which nobody signed", token)
		}
	})
}

func FuzzKeySet(f *testing.F) {
	i := newIssuer(f)
	f.Add(i.jwks(f))
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB","kid":"a"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := parseKeySet(data)
		for kid, key := range keys {
			if err != nil || kid == "" || !key.IsPublic() {
				t.Fatalf("key %q of a set with error %v", kid, err)
			}
		}
	})
}
