package main

import (
	"testing"
)

func TestAgentThatTrustsRootsFollowsAChangeOfKeys(t *testing.T) {
	t.Parallel()
	s, v, roots := newRootedSite(t)
	s.start(roots...)
	s.upgrade("1.1.0", roots...).ok(t)

	v.keys("rotate", "--add", v.file("next.pub")).ok(t)
	v.keys("revoke", "--reason", "broken into", v.file("release.pub")).ok(t)
	v.sign()
	s.upgrade("1.1.0", roots...).fails(t, 1, "key revoked", "broken into")
	v.build("next", "1.2.0", "--plain=false", "--extend", v.file("release.pub")).ok(t) // as an operator does
	s.upgrade("1.2.0", roots...).ok(t)
	if got := s.mustInfo().Version; got != "1.2.0" {
		t.Errorf("%s runs, want 1.2.0", got)
	}
}
