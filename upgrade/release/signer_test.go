package release

import (
	"os"
	"strings"
	"testing"
)

func TestSignerIsReadFromTheCommentThatMinisignWritesByItself(t *testing.T) {
	signature := signAs(fixtureKey(t, 1), []byte("message"), "timestamp:1893553445\tfile:release.json\thashed", "release")
	s, err := ReadSigner(signature)
	if err != nil || s.Comment != "timestamp:1893553445 file:release.json hashed" || s.Key != fixtureID(t, 1) {
		t.Errorf("signer %+v, %v", s, err)
	}
	if s, err := ReadSigner(signAs(fixtureKey(t, 1), []byte("message"), "a\x1b[2Jb", "release")); err == nil {
		t.Errorf("a comment that clears the screen is shown: %+v", s)
	}
}

func TestSignerIsReadFromASignatureOfTheMinisignCommand(t *testing.T) {
	t.Parallel()
	m := newMinisign(t)
	m.must("", "-G", "-W", "-p", "a.pub", "-s", "a.key")
	m.write("m", []byte("message"))
	m.must("", "-S", "-s", "a.key", "-m", "m")
	signature, err := os.ReadFile(m.file("m.minisig"))
	if err != nil {
		t.Fatal(err)
	}
	if s, err := ReadSigner(signature); err != nil || s.Key != KeyID(m.public("a.pub")) || !strings.Contains(s.Comment, "file:m") {
		t.Errorf("signer %+v, %v", s, err)
	}
}
