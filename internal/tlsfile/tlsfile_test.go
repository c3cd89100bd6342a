package tlsfile_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/certtest"
	"github.com/perennial-go/perennial/internal/tlsfile"
)

// set is the files of one client.
type set struct {
	t  *testing.T
	ca *certtest.Authority
	tlsfile.Paths
}

func newSet(t *testing.T) *set {
	dir := t.TempDir()
	s := &set{t: t, ca: certtest.New(t, "one"), Paths: tlsfile.Paths{
		CA: filepath.Join(dir, "ca.pem"), Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"),
	}}
	s.put(s.CA, s.ca.PEM())
	cert, key := s.ca.Issue(t, "first")
	s.put(s.Cert, cert)
	s.put(s.Key, key)
	return s
}

// put writes in place, as careless tools do.
func (s *set) put(path string, data []byte) {
	s.t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *set) open() *tlsfile.Files {
	s.t.Helper()
	f, err := tlsfile.Open(s.Paths)
	if err != nil {
		s.t.Fatal(err)
	}
	return f
}

// is checks who the pair in use is of, and what is said of the files.
func (s *set) is(f *tlsfile.Files, name string, says ...string) tlsfile.Material {
	s.t.Helper()
	m, err := f.Current()
	if got := m.Pair.Leaf.Subject.CommonName; got != name {
		s.t.Errorf("the pair in use is of %s, want %s", got, name)
	}
	if (err != nil) != (len(says) > 0) {
		s.t.Errorf("want an error only if the files are not in order, got %v", err)
	}
	for _, text := range says {
		if err != nil && !strings.Contains(err.Error(), text) {
			s.t.Errorf("want %q in the error, got %v", text, err)
		}
	}
	return m
}

// TestHalfReplacedFilesLeaveTheLastGoodOnesInUse: a tool that writes one file
// after the other must not cut an agent off in between.
func TestHalfReplacedFilesLeaveTheLastGoodOnesInUse(t *testing.T) {
	s := newSet(t)
	f := s.open()
	before := s.is(f, "first")

	cert, key := s.ca.Issue(t, "second")
	s.put(s.Cert, cert)
	s.is(f, "first", s.Cert, s.Key, "belong together")
	s.put(s.Key, key)
	if m := s.is(f, "second"); m.Changes != 1 {
		t.Errorf("%d changes, want 1", m.Changes)
	}
	s.put(s.Key, key[:len(key)/2])
	s.is(f, "second", s.Key)
	if err := os.Remove(s.Cert); err != nil {
		t.Fatal(err)
	}
	s.is(f, "second", s.Cert)

	// The authorities are for themselves: theirs comes into force all the same.
	s.put(s.CA, certtest.New(t, "two").PEM())
	m := s.is(f, "second", s.Cert)
	if m.Roots.Equal(before.Roots) {
		t.Error("the new authority is not in force while the pair is broken")
	}
	s.put(s.CA, []byte("-----BEGIN CERTIFICATE-----\nAAAA"))
	if again := s.is(f, "second", s.CA); !again.Roots.Equal(m.Roots) {
		t.Error("broken authorities are in force")
	}
	s.put(s.Cert, cert)
	s.put(s.Key, key)
	s.put(s.CA, s.ca.PEM())
	s.is(f, "second")
}

// TestChangeWithinOneTickOfTheClockIsSeen: two versions of the same size may
// have the same time of change.
func TestChangeWithinOneTickOfTheClockIsSeen(t *testing.T) {
	s := newSet(t)
	f := s.open()
	s.is(f, "first")
	stamp := time.Now()
	for _, name := range []string{"other", "third"} {
		cert, key := s.ca.Issue(t, name)
		s.put(s.Cert, cert)
		s.put(s.Key, key)
		for _, path := range []string{s.Cert, s.Key} {
			if err := os.Chtimes(path, stamp, stamp); err != nil {
				t.Fatal(err)
			}
		}
		s.is(f, name)
	}
}

func TestExpiredPairDoesNotTakeThePlaceOfAValidOne(t *testing.T) {
	s := newSet(t)
	f := s.open()
	cert, key := s.ca.IssueUntil(t, "expired", time.Now().Add(-time.Minute))
	s.put(s.Cert, cert)
	s.put(s.Key, key)
	s.is(f, "first", "expired on")
	// Alone it is better than nothing: the server says what it thinks of it.
	s.is(s.open(), "expired")
}

func TestFilesThatAreNotInOrderAreRefusedByName(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*set)
		says  string
		is    error
	}{
		"no authorities":     {func(s *set) { s.put(s.CA, []byte("none")) }, "ca.pem", nil},
		"absent authorities": {func(s *set) { s.CA += "x" }, "ca.pemx", fs.ErrNotExist},
		"absent key":         {func(s *set) { s.Key += "x" }, "key.pemx", fs.ErrNotExist},
		"key without cert":   {func(s *set) { s.Cert = "" }, "belong together", nil},
		"another's key": {func(s *set) {
			_, key := s.ca.Issue(t, "other")
			s.put(s.Key, key)
		}, "key.pem", nil},
		"key for everybody": {func(s *set) {
			if err := os.Chmod(s.Key, 0o644); err != nil {
				t.Fatal(err)
			}
		}, "0644", nil},
		"endless authorities": {func(s *set) { s.put(s.CA, make([]byte, 5<<20)) }, "at most", nil},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "key for everybody" && runtime.GOOS == "windows" {
				t.Skip("Windows has no permission bits")
			}
			s := newSet(t)
			c.spoil(s)
			_, err := tlsfile.Open(s.Paths)
			if err == nil || !strings.Contains(err.Error(), c.says) || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("want an error that says %q, got %v", c.says, err)
			}
		})
	}
}

// TestErrorsDoNotShowTheKey: they end in logs.
func TestErrorsDoNotShowTheKey(t *testing.T) {
	s := newSet(t)
	f := s.open()
	key, err := os.ReadFile(s.Key)
	if err != nil {
		t.Fatal(err)
	}
	secret := strings.Split(string(key), "\n")[1]
	for _, text := range []string{secret, "-----BEGIN PRIVATE KEY-----\n" + secret + "\n-----END PRIVATE KEY-----"} {
		s.put(s.Key, []byte(text))
		if _, err := f.Current(); err == nil || strings.Contains(err.Error(), secret[:16]) {
			t.Errorf("want an error without the key, got %v", err)
		}
	}
}
