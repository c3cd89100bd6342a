package redact_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/internal/redact"
)

// TestWhatLooksLikeASecretIsTakenOut: each line has "planted" where a secret
// is, and "seen" in what is to stay.
func TestWhatLooksLikeASecretIsTakenOut(t *testing.T) {
	r := redact.New(nil)
	for _, line := range []string{
		`seen http://seen:planted@seen`,
		`seen http://seen:plant@nted@seen/seen`,
		`seen https://planted-ghp@seen/seen`,
		`seen redis://:planted@seen`,
		`seen Authorization: token planted seen-no-more`,
		`seen map[Authorization:[Token planted] Seen:[seen]]`,
		`{"seen":1,"headers":{"Authorization":"Custom planted planted","x":"seen"}}`,
		`{"seen":"{\"authorization\": \"Custom planted\", \"x\": \"seen\"}"}`,
		`seen Cookie: session=planted; b=planted`,
		`seen --password planted --seen seen`,
		`seen --api-token=planted --seen`,
		`{"args":["--password","planted","--seen","seen"]}`,
		`{"tokens":["planted","planted"],"seen":1}`,
		`{"password":{"value":"planted","b":{"c":"planted"}},"seen":[1]}`,
		`{"seen":"{\"secret\":{\"a\":\"planted\"},\"b\":\"seen\"}"}`,
		`{"kty":"EC","x":"seen","y":"seen","d":"planted-planted"}`,
		`{"text":"{\"kty\":\"oct\",\"seen\":1,\"k\":\"planted-planted\"}"}`,
		`seen planted-base64-planted -----END EC PRIVATE KEY-----seen`,
		"seen -----BEGIN PRIVATE KEY-----\\nplanted\\n-----END PRIVATE KEY----- seen -----BEGIN PRIVATE KEY-----planted",
	} {
		got := r.Text(line)
		if strings.Contains(got, "planted") || strings.Contains(got, "nted") {
			t.Errorf("%s\nbecomes %s", line, got)
		}
		if json.Valid([]byte(line)) != json.Valid([]byte(got)) {
			t.Errorf("%s\nis no JSON any more: %s", line, got)
		}
		if !strings.Contains(line, "END EC") && strings.Count(got, "seen") != strings.Count(line, "seen")-strings.Count(line, "seen-no-more") {
			t.Errorf("%s\nloses more than its secret: %s", line, got)
		}
	}
}

// TestWhatIsNoSecretStays: an archive from which everything was taken tells
// nothing.
func TestWhatIsNoSecretStays(t *testing.T) {
	r := redact.New([]string{"abc"}) // too short to be looked for
	for _, text := range []string{
		"oci://registry.example:5000/team/app@sha256:0123456789abcdef was pulled",
		"dial unix:///run/agentd/admin.sock: connection refused",
		`{"token":null,"password":"","secret":false,"tokens":[],"key":"value"}`,
		"want --password-file or --token-file with mode 0600",
		"abc",
		"password=(secret) --token (secret) http://a:(secret)@b Authorization: (secret)",
		"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
		"{\n  \"tokens\": [\n    1\n  ]\n}",
	} {
		if got := r.Text(text); got != text {
			t.Errorf("%s\nbecomes %s", text, got)
		}
	}
}

func TestKeyWhoseBeginningWasCutOffDoesNotHideTheWholeLog(t *testing.T) {
	before := strings.Repeat("seen\n", 10_000)
	got := redact.New(nil).Text(before + "planted\n-----END PRIVATE KEY-----\nlast")
	if strings.Contains(got, "planted") || strings.Count(got, "seen") < 5000 || !strings.HasSuffix(got, "\nlast") {
		t.Errorf("%d of 10000 lines are left, the end is %q", strings.Count(got, "seen"), got[max(0, len(got)-40):])
	}
}

func TestValuesOfSecretFlagsAreTakenOutAndTold(t *testing.T) {
	key := filepath.Join(t.TempDir(), "seen.key")
	if err := os.WriteFile(key, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	shown, secrets := redact.CommandLine([]string{
		"demo", "--api-token", "planted1", "--password=planted2", "--token", "-planted3", "--secret", "/planted4+base64/", "--etcd-key", key,
		"--password-file", "seen", "--quiet-auth", "--seen",
	})
	want := []string{
		"demo", "--api-token", "(secret)", "--password=(secret)", "--token", "(secret)", "--secret", "(secret)", "--etcd-key", key,
		"--password-file", "seen", "--quiet-auth", "--seen",
	}
	if !slices.Equal(shown, want) || !slices.Equal(secrets, []string{"planted1", "planted2", "-planted3", "/planted4+base64/"}) {
		t.Errorf("shown %q\nsecrets %q", shown, secrets)
	}
}

func TestVariablesTellTheSecretsInThem(t *testing.T) {
	for variable, want := range map[string][]string{
		"DEMO_TOKEN=planted":                       {"planted"},
		"DEMO_TOKEN=short":                         nil,
		"DEMO_TOKEN_FILE=/file":                    nil,
		"HTTPS_PROXY=http://user:planted%2F@proxy": {"planted/"},
		"DATABASE=postgres://user@host/x":          nil,
		"HOME=/home/agent":                         nil,
		"OTEL_EXPORTER_OTLP_HEADERS=x-team=planted1,authorization=Basic%20plant": {"x-team=planted1,authorization=Basic%20plant", "planted1", "Basic%20plant", "Basic plant"},
	} {
		name, value, _ := strings.Cut(variable, "=")
		if got := redact.Variable(name, value); !slices.Equal(got, want) {
			t.Errorf("%s tells %q, want %q", variable, got, want)
		}
	}
}

func FuzzText(f *testing.F) {
	for _, seed := range []string{`{"password":{"a":["x`, "://a:b@c@", "Authorization: [", "-----END PRIVATE KEY----------BEGIN PRIVATE KEY-----", `--token","x`} {
		f.Add(seed)
	}
	r := redact.New([]string{"planted by the author"})
	f.Fuzz(func(t *testing.T, text string) {
		if got := r.Text(text + " planted by the author " + text); strings.Contains(got, "planted by the author") {
			t.Errorf("a known secret stays: %q", got)
		}
	})
}
