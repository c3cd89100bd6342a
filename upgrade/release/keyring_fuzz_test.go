package release

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"
)

const goodKeyring = `{"schema":1,"name":"agentd","sequence":1,"issued":"2030-01-01T00:00:00Z","expires":"2031-01-01T00:00:00Z",` +
	`"keys":[{"key":"RWRXc+qbI4/lhDygTmpYgXqZmit1bEJdV7+V4XXSp+Pg/1CUIfNsbz9N","not_before":"2030-01-01T00:00:00Z","comment":"c"}],` +
	`"revoked":[{"id":"00000000000000AA","since":"2030-01-01T00:00:00Z","reason":"stolen"}]}`

func FuzzParseKeyring(f *testing.F) {
	f.Add([]byte(goodKeyring))
	for from, to := range map[string]string{
		`"schema":1`: `"schema":2`, `"agentd"`: `"../x"`, `"sequence":1`: `"sequence":9007199254740992`, `"id"`: `"ID":"x","id"`,
		`AA"`: `aa"`, `RWRX`: `rwrx`, `2031`: `2029`, `"comment"`: `"not_after":"2029-01-01T00:00:00Z","comment"`, `"c"`: `[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]`,
	} {
		f.Add([]byte(strings.Replace(goodKeyring, from, to, 1)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		k, err := ParseKeyring(data)
		if err != nil {
			return
		}
		raw, err := encodeDocument(k)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := ParseKeyring(raw); err != nil || again.Sequence != k.Sequence || len(again.Keys) != len(k.Keys) || len(again.Revoked) != len(k.Revoked) {
			t.Errorf("read once, but not again: %v\n%s", err, raw)
		}
		for _, key := range k.Keys {
			if !validKeyID(key.ID()) || checkPath(keyringCopyPath(key.ID())) != nil {
				t.Errorf("id %q of a key is no file name", key.ID())
			}
			if k.revoked(key.ID()) != nil {
				t.Errorf("key %s is listed and revoked", key.ID())
			}
		}
	})
}

// FuzzKeyringSignatures looks for signature files that count without being
// of enough roots.
func FuzzKeyringSignatures(f *testing.F) {
	trust := rootTrust(f)
	document := []byte(goodKeyring)
	one := signAs(fixtureKey(f, root1), document, "one", "root")
	two := signAs(fixtureKey(f, root2), document, "two", "root")
	other := signAs(fixtureKey(f, root2), []byte("other"), "two", "root")
	f.Add(one, bytes.ReplaceAll(one, []byte("\n"), []byte("\r\n")))
	f.Add(one, other)
	f.Add(one, []byte(strings.Replace(string(one), "1065", "1066", 1)))
	f.Add([]byte("untrusted comment: \n"), []byte(nil))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		// The corpus knows one root's signature; a second cannot be made up.
		if bytes.Contains(a, two[60:100]) || bytes.Contains(b, two[60:100]) {
			return
		}
		k, err := trust.VerifyKeyring(document, a, b, one, a, b)
		if err == nil {
			t.Errorf("keyring %d was taken with the signature of one root and %q, %q", k.Sequence, a, b)
		} else if !errors.Is(err, ErrUntrusted) {
			t.Errorf("error %v does not wrap ErrUntrusted", err)
		}
	})
}

// FuzzTrustStateKeyring: what is kept about keys is read again as it was, and
// never counts without the roots.
func FuzzTrustStateKeyring(f *testing.F) {
	trust := Trust{Roots: fixtureTrust(f, 104).Keys} // has signed nothing in the corpus
	f.Add([]byte(`{"schema":1,"name":"agentd","keyring":{"sequence":1,"document":"e30=","signatures":["eA=="]},"revoked":["00000000000000AA"],` +
		`"marks":[{"key":"00000000000000AA","sequence":1,"index":"` + goodDigest + `"}]}`))
	f.Add([]byte(`{"schema":1,"keyring":{"document":""},"marks":null,"REVOKED":[]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := parseTrustState(data)
		if err != nil {
			return
		}
		if k, err := s.keyring(trust); err == nil {
			t.Errorf("keyring %d is in force and no root has signed it", k.Sequence)
		}
		raw, err := s.encode()
		if err != nil {
			if s.Seen.Year() >= 0 && s.Seen.Year() < 10_000 {
				t.Fatal(err)
			}
			return
		}
		again, err := parseTrustState(raw)
		if err != nil || len(again.Marks) != len(s.Marks) || len(again.Revoked) != len(s.Revoked) || (again.Keyring == nil) != (s.Keyring == nil) {
			t.Errorf("written as %s, read as %+v (%v)", raw, again, err)
		}
	})
}

func TestKeyringGoldenOfTheFuzzTargetParses(t *testing.T) {
	k, err := ParseKeyring([]byte(goodKeyring))
	if err != nil || !k.Expires.Equal(time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("%+v, %v", k, err)
	}
}
