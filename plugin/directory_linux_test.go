package plugin_test

import (
	"crypto/sha256"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/plugin"
)

// pair is a plugin's files before a test spoils them.
type pair struct {
	*testing.T
	dir, name string
}

// somebody is a user who is neither root nor who runs the tests.
const somebody = 54321

func (p pair) path(suffix string) string { return filepath.Join(p.dir, p.name+suffix) }

// write makes a file with exactly that mode.
func (p pair) write(suffix, data string, perm os.FileMode) {
	p.Helper()
	if err := os.WriteFile(p.path(suffix), []byte(data), perm); err != nil {
		p.Fatal(err)
	}
	p.must(os.Chmod(p.path(suffix), perm))
}

func (p pair) must(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

// lay writes an executable and its manifest.
func (p pair) lay() {
	p.Helper()
	p.write("", "test", 0o755)
	p.manifest(func(s string) string { return s })
}

// manifest writes the pair's manifest, changed.
func (p pair) manifest(change func(string) string) {
	p.Helper()
	text := strings.Replace(goodManifest, "name: probe", "name: "+p.name, 1)
	text = strings.Replace(text, "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", fmt.Sprintf("%x", sha256.Sum256([]byte("test"))), 1)
	p.write(plugin.ManifestSuffix, change(text), 0o644)
}

// replace puts what with makes in the place of one of the files.
func (p pair) replace(suffix string, with func(path string) error) {
	p.Helper()
	p.must(os.Remove(p.path(suffix)))
	p.must(with(p.path(suffix)))
}

// TestUnusableFilesAreRefusedWithOneSentence lays all of them into one
// directory: what is wrong with one plugin is nothing to another.
func TestUnusableFilesAreRefusedWithOneSentence(t *testing.T) {
	t.Parallel()
	const yaml = plugin.ManifestSuffix
	swap := func(old, replacement string) func(p pair) {
		return func(p pair) {
			p.manifest(func(s string) string { return strings.Replace(s, old, replacement, 1) })
		}
	}
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte("test"), 0o755); err != nil {
		t.Fatal(err)
	}
	link := func(suffix, target string) func(p pair) {
		return func(p pair) {
			p.replace(suffix, func(path string) error { return os.Symlink(target, path) })
		}
	}
	become := func(suffix string, mode uint32, device int) func(p pair) {
		return func(p pair) {
			p.replace(suffix, func(path string) error { return syscall.Mknod(path, mode, device) })
		}
	}
	const null = 1<<8 | 3
	cases := map[string]struct {
		spoil func(p pair)
		says  string
	}{
		"link-out-of-the-directory": {link("", outside), "symbolic link out of the plugins directory"},
		"link-up":                   {link("", "../outside"), "symbolic link out of the plugins directory"},
		"link-into-a-subdirectory":  {link("", "sub/probe"), "symbolic link out of the plugins directory"},
		"manifest-links-out":        {link(yaml, outside), "symbolic link out of the plugins directory"},
		"link-to-itself":            {link("", "link-to-itself"), "want at most 4 symbolic links"},
		"dangling-link":             {link("", "nothing"), "found nothing; copy it"},
		"group-writes-executable":   {func(p pair) { p.must(os.Chmod(p.path(""), 0o775)) }, "its group can write to it"},
		"world-writes-executable":   {func(p pair) { p.must(os.Chmod(p.path(""), 0o757)) }, "everybody can write to it"},
		"group-writes-manifest":     {func(p pair) { p.must(os.Chmod(p.path(yaml), 0o664)) }, "its group can write to it"},
		"world-writes-manifest":     {func(p pair) { p.must(os.Chmod(p.path(yaml), 0o646)) }, "everybody can write to it"},
		"foreign-executable":        {func(p pair) { p.must(os.Chown(p.path(""), somebody, 0)) }, "it belongs to user 54321"},
		"foreign-manifest":          {func(p pair) { p.must(os.Chown(p.path(yaml), somebody, 0)) }, "it belongs to user 54321"},
		"no-manifest":               {func(p pair) { p.must(os.Remove(p.path(yaml))) }, "there is no no-manifest.plugin.yaml beside the executable"},
		"no-executable":             {func(p pair) { p.must(os.Remove(p.path(""))) }, "wanted the executable of no-executable 1.2.3 there, found nothing"},
		"digest-differs":            {func(p pair) { p.write("", "tesT", 0o755) }, "plugin digest differs"},
		"not-executable":            {func(p pair) { p.must(os.Chmod(p.path(""), 0o644)) }, "it is not executable (mode -rw-r--r--); chmod +x it"},
		"executable-is-a-directory": {func(p pair) { p.replace("", func(s string) error { return os.Mkdir(s, 0o755) }) }, "want a regular file, found a directory"},
		"executable-is-a-pipe":      {become("", syscall.S_IFIFO|0o755, 0), "want a regular file, found a named pipe"},
		"executable-is-a-device":    {become("", syscall.S_IFCHR|0o755, null), "want a regular file, found a device"},
		"executable-is-a-socket":    {become("", syscall.S_IFSOCK|0o755, 0), "want a regular file, found a socket"},
		"executable-too-large":      {func(p pair) { p.must(os.Truncate(p.path(""), 1<<30+1)) }, "want an executable of at most 1073741824 bytes, found 1073741825"},
		"manifest-is-a-pipe":        {become(yaml, syscall.S_IFIFO|0o644, 0), "want a regular file, found a named pipe"},
		"manifest-is-a-directory":   {func(p pair) { p.replace(yaml, func(s string) error { return os.Mkdir(s, 0o755) }) }, "want a regular file, found a directory"},
		"manifest-too-large":        {func(p pair) { p.manifest(func(s string) string { return s + strings.Repeat("#\n", 40<<10) }) }, "want at most 65536 bytes"},
		"manifest-is-no-yaml":       {func(p pair) { p.write(yaml, "{", 0o644) }, "bad plugin manifest"},
		"host-too-old":              {swap(">=1.0.0 <2.0.0", ">=1.5.0"), "wants a host >=1.5.0, found 1.4.0"},
		"partial-version":           {swap("version: 1.2.3", "version: '1.2'"), "want a complete SemVer version"},
		"other-protocol":            {swap("protocol: [1]", "protocol: [7]"), "protocol: want a list with 1, found [7]"},
		"path-for-a-name":           {swap("name: path-for-a-name", "name: ../p"), `found "../p"`},
		"name-of-another":           {swap("name: name-of-another", "name: host-too-old"), `want "name-of-another", as the file is called, found "host-too-old"`},
	}
	dir := t.TempDir()
	for name, c := range cases {
		p := pair{t, dir, name}
		p.lay()
		c.spoil(p)
	}
	// What lies there besides is nobody's concern, whatever its name.
	p := pair{t, dir, "README"}
	p.write("", "about these plugins", 0o644)
	p.must(os.Mkdir(filepath.Join(dir, "data"), 0o755))
	var log waittest.Log
	p = pair{t, dir, "P Q"}
	p.write(plugin.ManifestSuffix, goodManifest, 0o644)
	h := startHost(t, dir, func(c *plugin.Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	for name, c := range cases {
		if s := h.awaitState(t, name, plugin.Refused); !strings.Contains(s.Reason, c.says) || s.PID != 0 {
			t.Errorf("%s: want it refused with %q, found %+v", name, c.says, s)
		}
	}
	if all := h.List(); len(all) != len(cases) {
		t.Errorf("want %d plugins, found %d: %+v", len(cases), len(all), all)
	}
	waittest.Until(t, "a name that cannot be listed is in the log", func() bool { return strings.Contains(log.String(), "P Q.plugin.yaml") })
}

func TestFileThatIsNoProgramIsNotTriedForEver(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pair{t, dir, "p"}.lay()
	h := startHost(t, dir, func(c *plugin.Config) { c.CrashLimit = 1 })
	if s := h.awaitState(t, "p", plugin.Quarantined); !strings.Contains(s.Reason, "cannot be executed") {
		t.Errorf("found %+v", s)
	}
}

func TestLinkWithinTheDirectoryIsFollowed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, version := range []string{"1.0.0", "1.1.0"} {
		install(t, dir, spec{Name: "probe", Version: version})
		for _, suffix := range []string{"", plugin.ManifestSuffix} {
			if err := os.Rename(filepath.Join(dir, "probe"+suffix), filepath.Join(dir, "probe-"+version+suffix+".kept")); err != nil {
				t.Fatal(err)
			}
		}
	}
	point := func(version string) {
		t.Helper()
		for _, suffix := range []string{"", plugin.ManifestSuffix} {
			link := filepath.Join(dir, "probe"+suffix)
			if err := os.Symlink("probe-"+version+suffix+".kept", link+".new"); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(link+".new", link); err != nil {
				t.Fatal(err)
			}
		}
	}
	point("1.0.0")
	h := startHost(t, dir, nil)
	h.awaitVersion(t, "probe", "1.0.0")
	point("1.1.0")
	h.awaitVersion(t, "probe", "1.1.0")
	if all := h.List(); len(all) != 1 {
		t.Errorf("the targets of links are listed: %+v", all)
	}
}

func TestDirectoryThatOthersCanWriteToIsNotRead(t *testing.T) {
	t.Parallel()
	for mode, who := range map[os.FileMode]string{0o775: "its group", 0o757: "everybody", 0o777 | os.ModeSticky: "everybody"} {
		dir := t.TempDir()
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := plugin.New(plugin.Config{Dir: dir, StateDir: t.TempDir()}); err == nil || !strings.Contains(err.Error(), who+" can write to it") {
			t.Errorf("%s: want it refused, found %v", mode, err)
		}
	}
	dir := t.TempDir()
	if err := os.Chown(dir, somebody, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := plugin.New(plugin.Config{Dir: dir, StateDir: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "it belongs to user 54321") {
		t.Errorf("a directory of somebody: want it refused, found %v", err)
	}
}

func TestDirectoryThatIsOpenedUpWhileTheHostRunsBringsNothingNew(t *testing.T) {
	t.Parallel()
	var log waittest.Log
	h, old := startProbe(t, func(c *plugin.Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	if err := os.Chmod(h.dir, 0o777); err != nil { //nolint:gosec // the point of the test
		t.Fatal(err)
	}
	waittest.Until(t, "the log says why", func() bool { return strings.Contains(log.String(), "everybody can write to it") })
	install(t, h.dir, spec{Name: "probe", Version: "1.1.0"})
	install(t, h.dir, spec{Name: "other", Version: "1.0.0"})
	if s := h.status("probe"); s.PID != old.PID || s.State != plugin.Running {
		t.Errorf("what runs does not go on: %+v", s)
	}
	if s := h.status("other"); s.Name != "" {
		t.Errorf("a file out of it is used: %+v", s)
	}
	if err := os.Chmod(h.dir, 0o755); err != nil { //nolint:gosec // a directory
		t.Fatal(err)
	}
	h.awaitVersion(t, "probe", "1.1.0")
	h.awaitState(t, "other", plugin.Running)
}
