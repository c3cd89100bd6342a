package release

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"aead.dev/minisign"
)

// issued is when the repositories of these tests are signed.
var issued = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

const fixtureValidity = 30 * 24 * time.Hour

// fixtureKey returns the same key for the same seed, so that goldens can be
// compared byte by byte.
func fixtureKey(tb testing.TB, seed byte) minisign.PrivateKey {
	tb.Helper()
	private := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
	return rawKey(tb, 0x1000+uint64(seed), private)
}

// rawKey builds a minisign key from its parts.
func rawKey(tb testing.TB, id uint64, private []byte) minisign.PrivateKey {
	tb.Helper()
	raw := make([]byte, 158)
	binary.LittleEndian.PutUint16(raw, minisign.EdDSA)
	binary.LittleEndian.PutUint16(raw[4:], 0x3242)
	binary.LittleEndian.PutUint64(raw[54:], id)
	copy(raw[62:], private)
	var key minisign.PrivateKey
	if err := key.UnmarshalText([]byte(base64.StdEncoding.EncodeToString(raw))); err != nil {
		tb.Fatal(err)
	}
	return key
}

func fixtureTrust(tb testing.TB, seeds ...byte) Trust {
	tb.Helper()
	var trust Trust
	for _, seed := range seeds {
		public, err := publicKey(fixtureKey(tb, seed))
		if err != nil {
			tb.Fatal(err)
		}
		trust.Keys = append(trust.Keys, public)
	}
	return trust
}

// fixture is a real repository directory with a publisher and a host.
type fixture struct {
	tb    testing.TB
	dir   string
	state string // the host's trust.json
	clock time.Time

	published string // the publisher's StateDir
}

func newFixture(tb testing.TB) *fixture {
	tb.Helper()
	return &fixture{tb: tb, dir: filepath.Join(tb.TempDir(), "repo"), state: filepath.Join(tb.TempDir(), "trust.json"), clock: issued}
}

func (f *fixture) now() time.Time { return f.clock }

func (f *fixture) repository(seed byte) *Repository {
	f.tb.Helper()
	r, err := NewRepository(RepositoryConfig{Dir: f.dir, Key: fixtureKey(f.tb, seed), Validity: fixtureValidity, Now: f.now, PlainOnly: true, StateDir: f.published})
	if err != nil {
		f.tb.Fatal(err)
	}
	return r
}

// content is the binary of a version: large enough for several chunks.
func content(version string) []byte {
	return bytes.Repeat([]byte("binary "+version+"\n"), 40_000)
}

func (f *fixture) binary(version string) string {
	f.tb.Helper()
	path := filepath.Join(f.tb.TempDir(), "agentd")
	f.write(path, content(version))
	return path
}

func (f *fixture) release(version string) Release {
	f.tb.Helper()
	return Release{
		Name:     "agentd",
		Version:  version,
		Requires: Requires{Upgrade: ">=1.0.0"},
		Revision: "0123abc",
		Binaries: []Binary{{OS: "linux", Arch: "amd64", Path: f.binary(version)}},
	}
}

// publish adds versions with the key of seed 1, one second apart.
func (f *fixture) publish(versions ...string) (last Pin) {
	f.tb.Helper()
	for _, v := range versions {
		f.clock = f.clock.Add(time.Second)
		pin, err := f.repository(1).Publish(context.Background(), f.release(v))
		if err != nil {
			f.tb.Fatal(err)
		}
		last = pin
	}
	return last
}

func (f *fixture) source() Source {
	f.tb.Helper()
	src, err := NewDir(f.dir)
	if err != nil {
		f.tb.Fatal(err)
	}
	return src
}

func (f *fixture) client() *Client {
	f.tb.Helper()
	return f.clientOf(f.source())
}

func (f *fixture) clientOf(src Source) *Client {
	f.tb.Helper()
	c, err := NewClient(ClientConfig{
		Source: src, Trust: fixtureTrust(f.tb, 1), Name: "agentd", StateFile: f.state,
		OS: "linux", Arch: "amd64", Now: f.now,
	})
	if err != nil {
		f.tb.Fatal(err)
	}
	return c
}

// install does what a host does with a version: all that is between an
// order and a verified file.
func (f *fixture) install(ctx context.Context, c *Client, version string) (path string, err error) {
	f.tb.Helper()
	path = filepath.Join(f.tb.TempDir(), "agent")
	pin, err := c.Resolve(ctx, version)
	if err != nil {
		return path, err
	}
	m, _, _, err := c.Manifest(ctx, pin)
	if err != nil {
		return path, err
	}
	_, err = c.Fetch(ctx, m, path, FetchOptions{})
	return path, err
}

func (f *fixture) path(elem ...string) string {
	return filepath.Join(append([]string{f.dir}, elem...)...)
}

func (f *fixture) read(path string) []byte {
	f.tb.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		f.tb.Fatal(err)
	}
	return data
}

func (f *fixture) write(path string, data []byte) {
	f.tb.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		f.tb.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		f.tb.Fatal(err)
	}
}

func (f *fixture) remove(path string) {
	f.tb.Helper()
	if err := os.RemoveAll(path); err != nil {
		f.tb.Fatal(err)
	}
}

// replace edits a file as an attacker with access to the server would.
func (f *fixture) replace(path, from, to string) {
	f.tb.Helper()
	data := string(f.read(path))
	if !strings.Contains(data, from) {
		f.tb.Fatalf("%s holds no %q:\n%s", path, from, data)
	}
	f.write(path, []byte(strings.ReplaceAll(data, from, to)))
}

// snapshot copies the repository as it is now.
func (f *fixture) snapshot() string {
	f.tb.Helper()
	copied := filepath.Join(f.tb.TempDir(), "snapshot")
	if err := os.CopyFS(copied, os.DirFS(f.dir)); err != nil {
		f.tb.Fatal(err)
	}
	return copied
}

// restore puts a snapshot's file back.
func (f *fixture) restore(snapshot string, paths ...string) {
	f.tb.Helper()
	for _, p := range paths {
		f.write(f.path(p), f.read(filepath.Join(snapshot, p)))
	}
}

// index returns what the directory's index says, without any check.
func (f *fixture) index() *Index {
	f.tb.Helper()
	x, err := ParseIndex(f.read(f.path(indexPath)))
	if err != nil {
		f.tb.Fatal(err)
	}
	return x
}

func (f *fixture) entry(version string) IndexEntry {
	f.tb.Helper()
	e, err := f.index().Find(version)
	if err != nil {
		f.tb.Fatal(err)
	}
	return e
}

func (f *fixture) manifest(version string) *Manifest {
	f.tb.Helper()
	m, err := ParseManifest(f.read(f.path(manifestPath(f.entry(version).Manifest))))
	if err != nil {
		f.tb.Fatal(err)
	}
	return m
}

// signIndex writes an index of the attacker's or publisher's choice.
func (f *fixture) signIndex(seed byte, x any) {
	f.tb.Helper()
	raw, err := encodeDocument(x)
	if err != nil {
		f.tb.Fatal(err)
	}
	f.remove(f.path("indexes"))
	f.write(f.path(indexPath), raw)
	f.write(f.path(indexPath+signatureSuffix), sign(fixtureKey(f.tb, seed), raw, "agentd index"))
}

// signManifest adds a manifest under its digest and lists it for version in
// a newly signed index.
func (f *fixture) signManifest(seed byte, version string, raw []byte) Pin {
	f.tb.Helper()
	digest := sha256Hex(raw)
	f.write(f.path(manifestPath(digest)), raw)
	f.write(f.path(manifestPath(digest)+signatureSuffix), sign(fixtureKey(f.tb, seed), raw, "manifest"))
	x := f.index()
	entry := IndexEntry{Version: version, Manifest: digest, Size: int64(len(raw))}
	if known := x.entry(version); known != nil {
		*known = entry
	} else {
		x.Releases = append(x.Releases, entry)
	}
	x.Sequence++
	f.signIndex(1, x)
	return entry.Pin()
}

// decodedKey returns the Ed25519 key inside the text form of a minisign key.
func decodedKey(tb testing.TB, text []byte) []byte {
	tb.Helper()
	_, encoded, _ := strings.Cut(string(text), "\n")
	raw, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		tb.Fatal(err)
	}
	return raw[62 : 62+ed25519.PrivateKeySize]
}
