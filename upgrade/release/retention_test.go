package release

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Whoever has just read a document must find its signature, however long ago
// that was made.
func TestSignatureOfAReplacedDocumentStaysForWhoHasJustReadIt(t *testing.T) {
	t.Parallel()
	r := newRooted(t)
	r.mustPublish(1, "1.0.0")
	old := time.Now().Add(-30 * 24 * time.Hour)
	var signatures []string
	for _, dir := range []string{"indexes", "keyrings"} {
		found, err := filepath.Glob(r.path(dir, "sha256", "*"))
		if err != nil || len(found) == 0 {
			t.Fatalf("signatures in %s: %q, %v", dir, found, err)
		}
		signatures = append(signatures, found...)
	}
	for _, path := range signatures {
		if err := os.Chtimes(path, old, old); err != nil {
			t.Fatal(err)
		}
	}
	r.roll(root1, root2)
	r.mustPublish(1, "1.1.0")
	for _, path := range signatures {
		if _, err := os.Stat(path); err != nil {
			t.Errorf("gone at once: %v", err)
		}
		if err := os.Chtimes(path, old, old); err != nil {
			t.Fatal(err)
		}
	}
	r.roll(root1, root2)
	r.mustPublish(1, "1.2.0")
	for _, path := range signatures {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s is kept for ever", path)
		}
	}
}
