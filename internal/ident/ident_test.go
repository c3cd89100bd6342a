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
