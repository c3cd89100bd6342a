package release

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/internal/filelock"
)

// entryAttacks put something else in the place of an entry, as any user can
// who may write to the directory.
func entryAttacks() map[string]func(f *cacheFixture, entry string) {
	link := func(f *cacheFixture, target, entry string) {
		f.remove(entry)
		if err := os.Symlink(target, entry); err != nil {
			f.tb.Fatal(err)
		}
	}
	return map[string]func(f *cacheFixture, entry string){
		"another file":     func(f *cacheFixture, entry string) { f.overwrite(entry, content("6.6.6")) },
		"one bit":          func(f *cacheFixture, entry string) { f.overwrite(entry, flipped(f.read(entry))) },
		"less":             func(f *cacheFixture, entry string) { f.overwrite(entry, f.read(entry)[:1000]) },
		"more":             func(f *cacheFixture, entry string) { f.overwrite(entry, append(f.read(entry), 0)) },
		"nothing":          func(f *cacheFixture, entry string) { f.overwrite(entry, nil) },
		"another entry":    func(f *cacheFixture, entry string) { f.overwrite(entry, f.read(f.blob("1.0.0"))) },
		"a directory":      func(f *cacheFixture, entry string) { f.remove(entry); f.write(filepath.Join(entry, "x"), nil) },
		"a link out of it": func(f *cacheFixture, entry string) { link(f, f.binary("1.1.0"), entry) },
		"a link within it": func(f *cacheFixture, entry string) { link(f, filepath.Base(f.blob("1.0.0")), entry) },
		"a link to the right": func(f *cacheFixture, entry string) {
			f.write(entry+".x", f.read(entry))
			link(f, filepath.Base(entry)+".x", entry)
		},
		"a link to itself": func(f *cacheFixture, entry string) { link(f, filepath.Base(entry), entry) },
	}
}

func flipped(data []byte) []byte {
	data[len(data)/2] ^= 1
	return data
}

func TestSwappedCacheEntryIsNeverServed(t *testing.T) {
	for name, attack := range entryAttacks() {
		t.Run(name, func(t *testing.T) {
			f := newCacheFixture(t)
			f.mustInstall(PullAlways, "1.0.0")
			f.mustInstall(PullAlways, "1.1.0")
			entry := f.blob("1.1.0")
			served := f.open(PullNever) // a process that has verified it before
			if body, _, err := served.Open(t.Context(), blobPath(filepath.Base(entry)), 0); err != nil || body.Close() != nil {
				t.Fatal(err)
			}
			attack(f, entry)
			for who, cache := range map[string]*Cache{"a new process": f.open(PullNever), "a process that knew it": served} {
				if body, _, err := cache.Open(t.Context(), blobPath(filepath.Base(entry)), 0); !errors.Is(err, ErrNotCached) {
					t.Errorf("%s: opened: %v, %v", who, body, err)
				}
			}
			f.source.take()
			f.mustInstall(PullIfNotPresent, "1.1.0")
			if asked := f.source.take(); len(asked) != 1 {
				t.Errorf("asked for %q, want the binary alone", asked)
			}
			f.mustInstall(PullNever, "1.1.0") // it was mended
		})
	}
}

func TestEntryThatIsSwappedBeforeItIsLinkedToIsNotInstalled(t *testing.T) {
	for name, attack := range entryAttacks() {
		t.Run(name, func(t *testing.T) {
			f := newCacheFixture(t)
			f.mustInstall(PullAlways, "1.0.0")
			f.mustInstall(PullAlways, "1.1.0")
			host := f.host(PullIfNotPresent)
			attack(f, f.blob("1.1.0"))
			dst := filepath.Join(t.TempDir(), "agent")
			if _, err := host.Fetch(t.Context(), f.fixture.manifest("1.1.0"), dst, FetchOptions{}); err != nil {
				t.Fatal(err)
			}
			info, err := os.Lstat(dst)
			if err != nil || !info.Mode().IsRegular() || !bytes.Equal(f.read(dst), content("1.1.0")) {
				t.Errorf("installed %v, %v", info, err)
			}
		})
	}
}

func TestPartThatIsALinkToAnotherFileIsNotWrittenTo(t *testing.T) {
	for name, link := range map[string]func(old, new string) error{"symbolic": os.Symlink, "hard": os.Link} {
		t.Run(name, func(t *testing.T) {
			f := newCacheFixture(t)
			m := f.fixture.manifest("1.1.0")
			part := filepath.Join(f.cache, partPath(m.Platforms[0].SHA256))
			victim := filepath.Join(f.cache, "authorized_keys")
			f.write(victim, []byte("mine"))
			f.write(filepath.Join(filepath.Dir(part), "x"), nil)
			if err := errors.Join(os.Chmod(victim, 0o600), link(victim, part)); err != nil {
				t.Fatal(err)
			}
			f.mustInstall(PullAlways, "1.1.0")
			info, err := os.Stat(victim)
			if err != nil || string(f.read(victim)) != "mine" || info.Mode() != 0o600 {
				t.Errorf("the file that the part was a link to is %q, %v, %v", f.read(victim), info.Mode(), err)
			}
		})
	}
}

func TestReaderDoesNotWaitForAnotherThatMakesNoProgress(t *testing.T) {
	f := newCacheFixture(t)
	part := filepath.Join(f.cache, partPath(f.fixture.manifest("1.1.0").Platforms[0].SHA256))
	f.write(part, []byte("slow"))
	held, err := os.Open(part)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = held.Close() }()
	if err := errors.Join(os.Chmod(part, 0o600), filelock.Lock(held)); err != nil {
		t.Fatal(err)
	}
	f.mustInstall(PullAlways, "1.1.0")
	if got := f.read(part); string(got) != "slow" {
		t.Errorf("the other's part was changed: %d bytes", len(got))
	}
}

func TestDocumentPathsCannotLeaveTheCache(t *testing.T) {
	f := newCacheFixture(t)
	cache := f.open(PullIfNotPresent)
	for _, name := range []string{"../x", "/etc/x", "a/../../x", "", ".", "index.json.minisig", blobPath(strings.Repeat("0", 64))} {
		if cache.Keep(name, []byte("x")) {
			t.Errorf("%q was kept", name)
		}
	}
	outside := t.TempDir()
	f.write(filepath.Join(f.cache, "x"), nil)
	if err := os.Symlink(outside, filepath.Join(f.cache, documentsDir)); err != nil {
		t.Fatal(err)
	}
	if cache.Keep(indexPath, []byte("x")) {
		t.Error("a document was kept through a link out of the cache")
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) > 0 {
		t.Errorf("written outside: %v, %v", entries, err)
	}
}
