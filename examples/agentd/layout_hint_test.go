package main

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestLayoutThatIsGivenAsADirectoryIsCalledByItsName(t *testing.T) {
	s := newShelf(t, "1.0.0")
	layout := filepath.Join(s.dir, "layout")
	agentd(t, "release", "push", "--repo", s.repo, "oci-layout:"+layout).ok(t)
	trust := []string{"--trust", s.trust}
	key := []string{"--key", filepath.Join(s.dir, "keys", "release.key")}
	for name, args := range map[string][]string{
		"list":    append([]string{"release", "list", "--repo", layout}, trust...),
		"keys":    {"keys", "list", "--repo", layout, "--trust-roots", s.trust},
		"push":    {"release", "push", "--repo", layout, "oci-layout:" + filepath.Join(s.dir, "copy")},
		"verify":  append([]string{"release", "verify", "--repo", layout}, trust...),
		"refresh": append([]string{"release", "refresh", "--repo", layout}, key...),
		"cached":  append([]string{"release", "list", "--repo", layout, "--cache", filepath.Join(s.dir, "cache")}, trust...),
	} {
		t.Run(name, func(t *testing.T) {
			r := agentd(t, args...)
			says := layout + " is an OCI image layout"
			if r.code != 1 || !strings.Contains(r.stdout+r.stderr, says) { // verify lists it as damage
				t.Errorf("want %q, found %+v", says, r)
			}
			if to := "give oci-layout:" + layout; name != "push" && !strings.Contains(r.stdout+r.stderr, to) {
				t.Errorf("want %q, found %+v", to, r)
			}
		})
	}
	agentd(t, append([]string{"release", "list", "--repo", "oci-layout:" + layout}, trust...)...).ok(t)
}
