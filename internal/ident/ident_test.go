package ident

import (
	"strings"
	"testing"
)

func TestWhatCouldLeaveItsKeyOrDirectoryIsNoName(t *testing.T) {
	for _, bad := range []string{"", ".", "..", "-a", "_a", "a/b", "a b", "a\n", "a\x00", "ä", "a\xff", strings.Repeat("a", MaxLength+1)} {
		if Valid(bad, "._-") {
			t.Errorf("%q was taken", bad)
		}
	}
	for _, good := range []string{"a", "Z9", "0", "a.b_c-d", "a..", strings.Repeat("a", MaxLength)} {
		if !Valid(good, "._-") {
			t.Errorf("%q was refused", good)
		}
	}
	if !Valid("a/b:c", "._/:-") {
		t.Error("the extra bytes do not count")
	}
}

func TestOnlyALowerCaseSHA256IsOne(t *testing.T) {
	good := strings.Repeat("0123456789abcdef", 4)
	for _, bad := range []string{"", good[1:], good + "0", strings.ToUpper(good), "../" + good[3:], good[:30] + "/" + good[31:], good[:30] + "é" + good[32:]} {
		if SHA256(bad) {
			t.Errorf("%q was taken", bad)
		}
	}
	if !SHA256(good) {
		t.Errorf("%q was refused", good)
	}
}

// A path that means something else in a URL or on Windows leaves the root there.
func TestPathStaysBelowItsRootEverywhere(t *testing.T) {
	for _, good := range []string{"index.json", "blobs/sha256/0", "a/..b"} {
		if !Path(good) {
			t.Errorf("%q is refused", good)
		}
	}
	for _, bad := range []string{"", ".", "..", "../a", "/a", "a/", "a//b", "a/../b", `a\b`, "a\x00", "c:a", "a?b", "a#b", "a%2e"} {
		if Path(bad) {
			t.Errorf("%q is taken", bad)
		}
	}
}
