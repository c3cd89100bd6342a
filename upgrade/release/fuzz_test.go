package release

import (
	"bytes"
	"errors"
	"net/http"
	"strings"
	"testing"
)

// Bytes that have not been authenticated reach only the signature parser;
// the others are fuzzed as well, because keys can be stolen.

func FuzzSignature(f *testing.F) {
	trust := fixtureTrust(f, 1)
	message := []byte("message")
	good := sign(fixtureKey(f, 1), message, "comment")
	f.Add(good)
	f.Add(sign(fixtureKey(f, 2), message, "comment"))
	f.Add(bytes.ReplaceAll(good, []byte("\n"), []byte("\r\n")))
	f.Add([]byte("untrusted comment: \n\ntrusted comment: \n"))
	f.Fuzz(func(t *testing.T, signature []byte) {
		err := trust.Verify(message, signature)
		if err != nil && !errors.Is(err, ErrUntrusted) {
			t.Errorf("error %v does not wrap ErrUntrusted", err)
		}
		if trust.Verify([]byte("another message"), signature) == nil {
			t.Error("the signature is good for a message that was never signed")
		}
	})
}

func FuzzParseIndex(f *testing.F) {
	f.Add([]byte(goodIndex))
	for _, tt := range badDocuments {
		f.Add([]byte(strings.Replace(goodIndex, tt.from, tt.to, 1)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		x, err := ParseIndex(data)
		if err != nil {
			return
		}
		raw, err := encodeDocument(x)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseIndex(raw); err != nil {
			t.Errorf("read once, but not again: %v\n%s", err, raw)
		}
		for _, e := range x.Releases {
			if err := checkPath(manifestPath(e.Manifest)); err != nil {
				t.Error(err)
			}
			if _, err := ParsePin(e.Pin().String()); err != nil {
				t.Error(err)
			}
		}
	})
}

func FuzzParseManifest(f *testing.F) {
	f.Add([]byte(goodManifest))
	for _, tt := range badDocuments {
		f.Add([]byte(strings.Replace(goodManifest, tt.from, tt.to, 1)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := ParseManifest(data)
		if err != nil {
			return
		}
		raw, err := encodeDocument(m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseManifest(raw); err != nil {
			t.Errorf("read once, but not again: %v\n%s", err, raw)
		}
		for _, p := range m.Platforms {
			if err := checkPath(blobPath(p.SHA256)); err != nil {
				t.Error(err)
			}
		}
	})
}

func FuzzTrustState(f *testing.F) {
	f.Add([]byte(`{"schema":1,"name":"agentd","sequence":1,"index":"` + goodDigest + `","seen":"2030-01-01T00:00:00Z","keyring":{}}`))
	f.Add([]byte(`{"schema":1}`))
	f.Add([]byte(`{"Schema":1,"SEQUENCE":0}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := parseTrustState(data)
		if err != nil {
			return
		}
		raw, err := s.encode()
		if err != nil {
			// Years that RFC 3339 cannot write are the only such case.
			if s.Seen.Year() >= 0 && s.Seen.Year() < 10_000 {
				t.Fatal(err)
			}
			return
		}
		again, err := parseTrustState(raw)
		if err != nil || again.Sequence != s.Sequence || again.Index != s.Index {
			t.Errorf("written as %s, read as %+v (%v)", raw, again, err)
		}
	})
}

func FuzzPublished(f *testing.F) {
	f.Add([]byte(`{"schema":1,"name":"agentd","sequence":1,"index":"` + goodDigest + `"}`))
	f.Add([]byte(`{"schema":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := parsePublished(data)
		if err != nil {
			return
		}
		raw, err := encodeDocument(p)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := parsePublished(raw); err != nil || again != p {
			t.Errorf("written as %s, read as %+v (%v)", raw, again, err)
		}
	})
}

func FuzzVersion(f *testing.F) {
	for _, s := range []string{"1.2.0", "v1", "latest", "1.2.0-rc.1+b", "1.2.0@sha256:" + goodDigest} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if v, err := ParseVersion(s); err == nil && (v.String() != s || strings.ContainsAny(s, "/\\ \x00\n@")) {
			t.Errorf("%q passes as a version", s)
		}
		if p, err := ParsePin(s); err == nil && p.String() != s {
			t.Errorf("%q is read as pin %q", s, p)
		}
	})
}

func FuzzContentRange(f *testing.F) {
	for _, s := range []string{"bytes 0-9/10", "bytes */10", "bytes 5-9/*", "bytes -/", ""} {
		f.Add(s, true)
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, header string, partial bool) {
		resp := &http.Response{StatusCode: http.StatusRequestedRangeNotSatisfiable, Header: http.Header{"Content-Range": {header}}}
		if partial {
			resp.StatusCode = http.StatusPartialContent
		}
		if start, total, err := responseRange(resp); err == nil && (start < 0 || total < -1) {
			t.Errorf("%q: start %d of %d", header, start, total)
		}
	})
}
