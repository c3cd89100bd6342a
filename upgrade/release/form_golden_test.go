package release

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"
)

// Releases that were published once are read for ever.
func TestGoldenFormsAreRead(t *testing.T) {
	old, current := largeProgram(0)[190_000:230_000], largeProgram(1)[190_000:230_000]
	sum := sha256.Sum256(current)
	for _, f := range []form{
		{Encoding: Encoding{Format: FormatZstd}},
		{Encoding: Encoding{Format: FormatZstd}, from: sha256Hex(old)},
		{Encoding: Encoding{Format: FormatBSDiff}, from: sha256Hex(old)},
	} {
		name := "form-1." + f.Format
		if f.from != "" {
			name = "delta-1." + f.Format
		}
		var made bytes.Buffer
		path := "testdata/" + name
		f.Size = int64(len(golden(t, name)))
		if f.from != "" {
			f.old = filepath.Join(t.TempDir(), "old")
			if err := os.WriteFile(f.old, old, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.decodeTo(t.Context(), &made, path, int64(len(current))); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if got := sha256.Sum256(made.Bytes()); got != sum {
			t.Errorf("%s decodes to %s", name, hex.EncodeToString(got[:]))
		}
	}
}
