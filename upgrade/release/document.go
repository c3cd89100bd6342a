package release

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/perennial-go/perennial/internal/ident"
	"github.com/perennial-go/perennial/internal/strictjson"
)

// Schema is the schema number of every document that this package writes,
// and the newest that it reads.
const Schema = 1

// Bounds of what is read before or after its signature has been checked.
const (
	// MaxIndexSize bounds index.json, in bytes.
	MaxIndexSize = 4 << 20
	// MaxManifestSize bounds a manifest, in bytes.
	MaxManifestSize = 1 << 20
	// MaxBinarySize bounds a binary, in bytes.
	MaxBinarySize = 4 << 30

	maxSignatureSize = 8 << 10
	maxJSONDepth     = 16
)

// CheckName refuses names of programs that are not safe in keys, paths and
// sentences.
func CheckName(name string) error {
	if !ident.Valid(name, "._-") {
		return fmt.Errorf("name %.140q: want 1 to 128 letters, digits, dots, underscores and hyphens, the first a letter or digit", name)
	}
	return nil
}

// decodeDocument decodes one signed JSON document into v. Unknown members
// are ignored, so that later releases can add some; what two readers could
// understand differently is refused.
func decodeDocument(what string, data []byte, limit int, v any) error {
	if len(data) > limit {
		return fmt.Errorf("%s has %d bytes, at most %d are read", what, len(data), limit)
	}
	if err := strictjson.Check(data, maxJSONDepth); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	var head struct {
		Schema int `json:"schema"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	switch {
	case head.Schema > Schema:
		return fmt.Errorf("%s has schema %d, this program reads up to %d: upgrade it to a release in between first", what, head.Schema, Schema)
	case head.Schema < 1:
		return fmt.Errorf("%s has no valid schema number (found %d, want %d)", what, head.Schema, Schema)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// encodeDocument is the one way in which documents are written: the same
// value always gives the same bytes.
func encodeDocument(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

func sha256Hex(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
