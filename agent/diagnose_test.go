package agent

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/config"
	"github.com/perennial-go/perennial/internal/redact"
	"github.com/perennial-go/perennial/internal/waittest"
)

// unpacked is a diagnosis: the text of each file, heap.pprof taken out of its
// own gzip.
func unpacked(t testing.TB, data []byte) map[string]string {
	t.Helper()
	gz, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for r := tar.NewReader(gz); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if inner, err := gzip.NewReader(bytes.NewReader(text)); err == nil {
			if text, err = io.ReadAll(inner); err != nil {
				t.Fatal(err)
			}
		}
		files[strings.TrimPrefix(h.Name, "diagnosis/")] = string(text)
	}
}

type secretSettings struct {
	Plain    string        `json:"plain"`
	Password config.Secret `json:"password"`
	Token    string        `json:"token" secret:"true"`
}

// diagnosable is an agent that was not run, in a state directory of its own.
func diagnosable(t *testing.T, edit func(*Config)) *Agent {
	t.Helper()
	store, err := config.New(config.Config[secretSettings]{Default: secretSettings{Password: config.NewSecret("planted in force")}})
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		ID: "a1", Version: "1.0.0", StateDir: t.TempDir(), Etcd: EtcdConfig{Endpoints: []string{"http://127.0.0.1:1"}},
		Settings: store, Start: func(context.Context, *Agent) error { return nil },
	}
	edit(&cfg)
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func diagnosis(t *testing.T, a *Agent) map[string]string {
	t.Helper()
	var out bytes.Buffer
	if err := a.Diagnose(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadDiagnosis(bytes.NewReader(out.Bytes())); err != nil {
		t.Fatal(err)
	}
	return unpacked(t, out.Bytes())
}

func put(t testing.TB, path, text string) {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(path), 0o700)
	if err == nil {
		err = os.WriteFile(path, []byte(text), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

const plantedKey = "-----BEGIN EC PRIVATE KEY-----\nMHcplantedQEEIBx\nplanted2\n-----END EC PRIVATE KEY-----"

// TestNoSecretReachesADiagnosis plants secrets wherever they can be. Each has
// "planted" in it, in one way or another.
func TestNoSecretReachesADiagnosis(t *testing.T) {
	t.Setenv("DEMO_API_TOKEN", "planted-environment")
	t.Setenv("DEMO_HARMLESS", "planted-value") // values are not for the archive at all
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-team=planted-in-otlp,authorization=Basic%20planted%2Fotlp")
	t.Setenv("DEMO_DATABASE", "postgres://seen:planted-in-url@db/x")
	passwords := filepath.Join(t.TempDir(), "password")
	put(t, passwords, "planted-password-file\n")
	a := diagnosable(t, func(c *Config) {
		c.Etcd.Endpoints = []string{"http://seen:planted-endpoint@127.0.0.1:1"}
		c.Etcd.Username, c.Etcd.Password, c.Etcd.PasswordFile = "u", "planted etcd/password", passwords
		c.Secrets = func() []string { return []string{"planted by the author\nof two lines planted"} }
	})
	dir := a.cfg.StateDir
	encode := base64.StdEncoding.EncodeToString
	put(t, filepath.Join(dir, configFile), fmt.Sprintf(`{"schema":1,"keys":["k"],"revision":7,"documents":[{"key":"k","revision":7,"data":%q}],"files":[{"key":"/f","data":%q}]}`,
		encode([]byte("plain: seen-in-config\npassword: planted.document\nunknown: {deep: planted.unknown}\n")), encode([]byte("token: planted.of.file\n"))))
	for _, name := range []string{"id_ed25519", "release.key", "slots/1.0.0-aaaaaaaaaaaa/key.pem", "plugins/room/x/secret.env"} {
		put(t, filepath.Join(dir, name), "planted\n"+plantedKey)
	}
	put(t, filepath.Join(dir, "plugins/plugins/demo.json"), `{"schema":1,"name":"demo","pid":1,"manifest":"name: demo\nsettings:\n  dsn: planted-in-settings\n"}`)
	quote := strings.Join([]string{
		"seen-before", "planted in force", "planted.document", "planted.unknown", "planted.of.file", "planted etcd/password", "planted+etcd%2Fpassword",
		"planted-password-file", "planted-environment", "planted-in-otlp", "Basic planted/otlp", "planted-in-url", "planted-endpoint", "planted-flag", "planted-flag2", "planted by the author", "of two lines planted", "planted-in-settings",
		encode([]byte("planted etcd/password")), "Authorization: Bearer planted.bearer-123", "https://user:planted@host/x", "password=planted",
		`{"client_secret": "planted \"x\" planted"}`, "api-key: planted", "eyJwbGFudGVkIjoxfQ.eyJwbGFudGVkIjoxfQ.planted", "seen-after",
	}, "\n")
	put(t, filepath.Join(dir, "plugins/log/demo.log"), quote+"\n"+plantedKey+"\nseen-last\n")
	put(t, filepath.Join(dir, "journal.json"), fmt.Sprintf(`{"schema":1,"state":"failed","reason":%q}`, quote))
	a.Logger().Error("of an error", "error", fmt.Errorf("seen-error: %s %s", quote, plantedKey))
	for n := recentLine - 200; n < recentLine; n += 7 { // one of them is cut within the secret
		a.Logger().Info(strings.Repeat("x", n), "error", "planted by the author "+strings.Repeat("x", 1000))
	}
	a.Logger().Warn("twice", "error", fmt.Errorf("%q", quote))
	a.Health().Set("demo", errors.New("seen-check: "+quote))

	key := filepath.Join(t.TempDir(), "seen.key")
	put(t, key, "planted\n")
	args := os.Args
	t.Cleanup(func() { os.Args = args })
	os.Args = []string{"demo", "--api-token", "planted-flag", "--password=planted-flag2", "--etcd-key", key, "--url=http://u:planted@h"}

	files := diagnosis(t, a)
	line := httptest.NewRecorder()
	serveCommandLine(line, nil)
	files["/debug/pprof/cmdline"] = line.Body.String()
	marks := []string{"planted", "plant", "BEGIN EC", encode([]byte("planted etcd/password")), "eyJwbGFudGVk"}
	for name, text := range files {
		for _, mark := range marks {
			if i := strings.Index(text, mark); i >= 0 {
				t.Errorf("%s has a secret: %.200q", name, text[max(i-80, 0):])
			}
		}
	}
	for name, want := range map[string][]string{
		"config/kept.json":                {"seen-in-config", "(secret)", "(hidden)"},
		"logs/demo.log":                   {"seen-before", "seen-after", "seen-last"},
		"logs/agent.ndjson":               {"seen-error", "seen-after", `"agent":"a1"`},
		"state/journal.json":              {"seen-before", "seen-after"},
		"state/plugins/plugins/demo.json": {`"pid"`},
		"/debug/pprof/cmdline":            {"demo\x00--api-token\x00(secret)"},
		"process.json":                    {"DEMO_HARMLESS", "DEMO_API_TOKEN", "/seen.key", "(secret)"},
		"status.json":                     {"seen-check"},
		"state/listing.txt":               {"id_ed25519"},
		"goroutines.txt":                  {"goroutine "},
		"metrics.txt":                     {"go_goroutines"},
		"build.txt":                       {"go1."},
		"heap.pprof":                      {"inuse_space"},
	} {
		for _, text := range want {
			if !strings.Contains(files[name], text) {
				t.Errorf("%s does not show %q: %.300q", name, text, files[name])
			}
		}
	}
	for _, name := range []string{"state/journal.json", "status.json", "process.json", "config/kept.json"} {
		if !json.Valid([]byte(files[name])) {
			t.Errorf("%s is no JSON any more: %s", name, files[name])
		}
	}
}

func TestADiagnosisOfAnAgentIsMadeOneAtATime(t *testing.T) {
	a := diagnosable(t, func(*Config) {})
	r, w := io.Pipe() // whose reader does not read yet
	first := make(chan error, 1)
	go func() { first <- errors.Join(a.Diagnose(t.Context(), w), w.Close()) }()
	if _, err := r.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := a.Diagnose(t.Context(), io.Discard); !errors.Is(err, ErrDiagnosing) {
		t.Errorf("a second one gives %v, want ErrDiagnosing", err)
	}
	second := httptest.NewRecorder()
	a.serveDiagnosis(second, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/diagnose", nil))
	if got := second.Header(); second.Code != http.StatusTooManyRequests || got.Get("Retry-After") == "" || !strings.HasPrefix(got.Get("Content-Type"), "text/plain") {
		t.Errorf("a second caller gets %d, %v, %s", second.Code, got, second.Body)
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		t.Fatal(err)
	}
	if err := waittest.Next(t, "the end of the first", first); err != nil {
		t.Fatal(err)
	}
	if err := a.Diagnose(t.Context(), io.Discard); err != nil {
		t.Errorf("one after it gives %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.Diagnose(ctx, io.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller that has gone: %v", err)
	}
}

// TestWhatCannotBeHadIsSaid: one that fails must not cost the rest.
func TestWhatCannotBeHadIsSaid(t *testing.T) {
	var out bytes.Buffer
	a := newArchive(&out, redact.New(nil), Diagnosis{Source: "agent"})
	noise := strings.Repeat(strings.Repeat("x", 1023)+"\n", 4<<10) // 4 MiB
	parts := []finding{
		{name: "panics", limit: 10, make: func(context.Context, io.Writer) (string, error) { panic("of the author") }},
		{name: "fails", limit: 10, make: func(context.Context, io.Writer) (string, error) { return "", errors.New("not to be had") }},
		{name: "cut", limit: 10, make: func(_ context.Context, w io.Writer) (string, error) {
			_, err := io.WriteString(w, "12345\n67890")
			return "", err
		}},
	}
	for i := range 9 {
		parts = append(parts, finding{name: fmt.Sprint("big", i), limit: 4 << 20, make: func(_ context.Context, w io.Writer) (string, error) {
			_, err := io.WriteString(w, noise)
			return "", err
		}})
	}
	for _, p := range parts {
		if err := a.add(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
	d, err := ReadDiagnosis(bytes.NewReader(out.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	total := int64(0)
	for _, text := range unpacked(t, out.Bytes()) {
		total += int64(len(text))
	}
	text := fmt.Sprint(d.Missing)
	if total > DiagnoseBytes || !strings.Contains(text, "big7") || !strings.Contains(text, "of the author") || !strings.Contains(text, "not to be had") {
		t.Errorf("%d bytes, missing %s", total, text)
	}
	if e := d.Entries[0]; e.Name != "cut" || e.Bytes != 6 || !strings.Contains(e.Note, "cut after 10") {
		t.Errorf("found %+v", e)
	}
}

func TestADiagnosisThatIsNotWholeIsNotTakenForOne(t *testing.T) {
	var out bytes.Buffer
	a := newArchive(&out, redact.New(nil), Diagnosis{Source: "disk", Version: "1.0.0"})
	if err := errors.Join(a.add(t.Context(), asJSON("one.json", "", func() any { return 1 })), a.close()); err != nil {
		t.Fatal(err)
	}
	whole := out.Bytes()
	for n := range whole {
		if _, err := ReadDiagnosis(bytes.NewReader(whole[:n])); err == nil {
			t.Fatalf("%d of %d bytes are taken for a diagnosis", n, len(whole))
		}
	}
	var bomb bytes.Buffer
	gz := gzip.NewWriter(&bomb)
	files := tar.NewWriter(gz)
	if err := files.WriteHeader(&tar.Header{Name: "x", Size: 1 << 30, Mode: 0o600}); err != nil {
		t.Fatal(err)
	}
	zeros := make([]byte, 1<<20)
	for range 40 {
		if _, err := files.Write(zeros); err != nil {
			t.Fatal(err)
		}
	}
	if err := gz.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadDiagnosis(&bomb); err == nil {
		t.Error("more than a diagnosis may have is taken for one")
	}
}

func TestReadsADiagnosisOfTheFirstFormat(t *testing.T) {
	f, err := os.Open("testdata/diagnosis-1.tar.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	d, err := ReadDiagnosis(f)
	if err != nil {
		t.Fatal(err)
	}
	if d.Agent != "a1" || d.Version != "1.0.0" || d.Source != "agent" || len(d.Entries) != 1 || d.Entries[0] != (DiagnosisEntry{"build.txt", "what the program was built from", 5, "cut after 5 bytes"}) ||
		len(d.Missing) != 1 || d.Missing[0] != (DiagnosisGap{"status.json", "no answer"}) {
		t.Errorf("found %+v", d)
	}
}

func FuzzReadDiagnosis(f *testing.F) {
	golden, err := os.ReadFile("testdata/diagnosis-1.tar.gz")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(golden)
	f.Fuzz(func(_ *testing.T, data []byte) {
		_, _ = ReadDiagnosis(bytes.NewReader(data)) // neither a panic nor without end
	})
}

func TestTheRememberedLogIsBoundedAndKeepsTheNewest(t *testing.T) {
	var out bytes.Buffer
	log := Logger(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelWarn})), "a1", "1.0.0")
	r, ok := log.Handler().(*recorder)
	if !ok {
		t.Fatal("no recorder")
	}
	log.Debug("not-taken")
	for i := range 5000 {
		log.Info("remembered", "count", i, "text", strings.Repeat("x", 200))
	}
	log.With("task", "t1").Warn("written too", "text", strings.Repeat("y", 1<<20))
	var kept bytes.Buffer
	lost, err := r.ring.copyTo(&kept, redact.New(nil))
	if err != nil || kept.Len() > recentBytes || lost == 0 {
		t.Errorf("%d bytes are kept, %d lines lost, %v", kept.Len(), lost, err)
	}
	if text := kept.String(); strings.Contains(text, "not-taken") || !strings.Contains(text, `"count":4999`) || strings.Contains(text, `"count":0,`) || !strings.Contains(text, `"task":"t1"`) {
		t.Error("want the newest lines from level Info on")
	}
	if n := strings.Count(out.String(), "\n"); n != 1 || !strings.Contains(out.String(), "agent=a1 version=1.0.0 task=t1") {
		t.Errorf("%d lines were written: %.200s", n, out.String())
	}
	a := diagnosable(t, func(c *Config) { c.Logger = log })
	if a.Logger() != log {
		t.Error("New makes another logger of one that Logger has made: each line would have its keys twice")
	}
}
