package oci

import (
	"errors"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/upgrade/release"
)

func TestOnlyExactReferencesAreTaken(t *testing.T) {
	digest := "sha256:" + strings.Repeat("a", 64)
	for ref, want := range map[string]Reference{
		"registry.example.com/agentd":                {Host: "registry.example.com", Repository: "agentd"},
		"registry.example.com:5000/a/b-c/d__e.f":     {Host: "registry.example.com:5000", Repository: "a/b-c/d__e.f"},
		"localhost/x:1.2.0":                          {Host: "localhost", Repository: "x", Version: "1.2.0"},
		"127.0.0.1:5000/x@" + digest:                 {Host: "127.0.0.1:5000", Repository: "x", Digest: digest},
		"[::1]:5000/x:2.0.0-rc.1@" + digest:          {Host: "[::1]:5000", Repository: "x", Version: "2.0.0-rc.1", Digest: digest},
		"h/" + strings.Repeat("a/", 127) + "a":       {Host: "h", Repository: strings.Repeat("a/", 127) + "a"},
		strings.Repeat("a", 63) + "." + "b/r---s/x9": {Host: strings.Repeat("a", 63) + ".b", Repository: "r---s/x9"},
	} {
		got, err := ParseReference(ref)
		if err != nil || got != want || got.String() != ref {
			t.Errorf("%s: %+v, %v, want %+v", ref, got, err, want)
		}
	}
	for ref, says := range map[string]string{
		"registry.example.com/agentd:latest": "write the version",
		"registry.example.com/agentd:stable": "write the version",
		"registry.example.com/agentd:v1":     "write all three numbers",
		"registry.example.com/agentd:1.2":    "write all three numbers",
		"registry.example.com/agentd:v1.2.0": "write 1.2.0",
		"registry.example.com/agentd:":       "write all three numbers",
	} {
		if _, err := ParseReference(ref); !errors.Is(err, release.ErrFloatingTag) || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "@sha256:") {
			t.Errorf("%s: %v, want ErrFloatingTag that says %q and names the digest", ref, err, says)
		}
	}
	for ref, says := range map[string]string{
		"":                                      "host/repository",
		"agentd":                                "host/repository",
		"host/":                                 "repository",
		"/agentd":                               "registry",
		"host/Agentd":                           "lower-case",
		"Host/agentd":                           "lower case",
		"host/a//b":                             "lower-case",
		"host/../etc":                           "lower-case",
		"host/a..b":                             "lower-case",
		"host/a___b":                            "lower-case",
		"host/-a":                               "lower-case",
		"host/a/":                               "lower-case",
		"host/a b":                              "lower-case",
		"host/a?x=1":                            "lower-case",
		"host/a%2fb":                            "lower-case",
		"host/" + strings.Repeat("a", 256):      "lower-case",
		"host:0/a":                              "registry",
		"host:65536/a":                          "registry",
		"host:050/a":                            "registry",
		"host:x/a":                              "registry",
		"ho_st/a":                               "registry",
		"-host/a":                               "registry",
		"::1/a":                                 "registry",
		"[::1/a":                                "registry",
		"[::1%eth0]/a":                          "registry",
		"[127.0.0.1]/a":                         "registry",
		"host/a:1.2.0+build.5":                  "build metadata",
		"host/a@sha256:short":                   "64",
		"host/a@md5:" + strings.Repeat("a", 64): "64",
		"host/a@sha256:" + strings.Repeat("A", 64): "64",
		"joe:hunter2@host/a":                       "docker login",
		strings.Repeat("a", 2000):                  "2000 characters",
	} {
		_, err := ParseReference(ref)
		if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v, want %q", ref, err, says)
		}
	}
}

func TestLocationThatIsNoRepositoryIsRefused(t *testing.T) {
	for location, says := range map[string]string{
		"oci://host/a:1.2.0":                             "write oci://host/a for the repository",
		"oci://host/a@sha256:" + strings.Repeat("a", 64): "write oci://host/a for the repository",
		"oci://host/a:latest":                            "write oci://host/a for the repository",
		"oci://host:5000/team/a:v1":                      "write oci://host:5000/team/a for the repository",
		"oci+http://host/a:1.2.0+b":                      "write oci+http://host/a for the repository",
		"oci://host/a@sha256:short":                      "write oci://host/a for the repository",
		"oci://joe:hunter2@host/a":                       "docker login",
		"oci://host":                                     "host/repository",
		"oci+https://host/a":                             "scheme",
		"oci-layout:":                                    "want the path",
		"oci-layout://host/x":                            "want the path",
		"ftp://host/x":                                   "https:// URL, or, to a program that takes OCI as agentd does, oci://host/repository",
		"":                                               "empty",
	} {
		if _, err := NewSource(location); err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v, want %q", location, err, says)
		}
	}
	for _, location := range []string{"oci://host/a", "oci+http://host:5000/a", "oci-layout:/srv/x", "/srv/repo", "https://host/repo"} {
		if _, err := NewSource(location); err != nil {
			t.Errorf("%s: %v", location, err)
		}
	}
}

func FuzzReference(f *testing.F) {
	for _, s := range []string{"registry.example.com:5000/team/agentd:1.2.0@sha256:" + strings.Repeat("a", 64), "[::1]:5000/x", "host/a:latest", "joe:pass@host/a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseReference(s)
		if err != nil {
			return
		}
		if r.String() != s {
			t.Errorf("%q became %q", s, r)
		}
		if strings.ContainsAny(r.Repository, ".") && strings.Contains(r.Repository, "..") || strings.ContainsAny(s, " \\?#%\x00") {
			t.Errorf("taken: %q", s)
		}
		if _, err := newRegistry(location{ref: r}, Config{}); err != nil {
			t.Errorf("%q is no address: %v", s, err)
		}
	})
}

func FuzzArtifact(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"artifactType":"` + ArtifactFiles + `","layers":[{"mediaType":"x/y","digest":"sha256:` + strings.Repeat("a", 64) + `","size":3,"annotations":{"org.opencontainers.image.title":"index.json"}}]}`))
	f.Add([]byte(`{"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"digest":"sha256:` + strings.Repeat("a", 64) + `","size":3}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		files, err := parseFiles(raw)
		if err == nil {
			for title, d := range files {
				if checkPath(title) != nil || !validDigest(string(d.Digest)) || d.Size < 0 || d.Size > maxFile {
					t.Errorf("taken: %q %+v", title, d)
				}
			}
		}
		_, _ = parseIndex(raw)
	})
}
