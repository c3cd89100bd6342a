package config

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/perennial-go/perennial/internal/etcdkv"
)

const (
	recordSchema = 1
	maxBy        = 256
	maxMessage   = 512
	// maxRecord is what a reader takes: what a later version may add is in it.
	maxRecord = 16 << 10
)

// record says who published a document, when and why. It lies beside the
// document, whose own key holds nothing but the text, and is written in the
// same transaction: it is about the document that has the same mod revision.
// A document that was published by other means has none.
type record struct {
	Schema  int       `json:"schema"`
	By      string    `json:"by,omitempty"`
	At      time.Time `json:"at"`
	Message string    `json:"message,omitempty"`
	// Restores is the revision whose document a rollback published again.
	Restores int64 `json:"restores,omitempty"`
	// Deleted: it is about a deletion, and has no document.
	Deleted bool `json:"deleted,omitempty"`
}

// encode writes a record that fits beside the largest document into one
// request to etcd.
func (r record) encode() (string, error) {
	var text strings.Builder
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false) // it would make six bytes of one
	err := encoder.Encode(r)
	return strings.TrimSuffix(text.String(), "\n"), err
}

// legible refuses what a terminal could not show, or a record hold.
func legible(what, text string, most int) error {
	if len(text) > most {
		return fmt.Errorf("%s has %d bytes: want at most %d", what, len(text), most)
	}
	if !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
		return fmt.Errorf("%s is %q: want UTF-8 without control characters", what, text)
	}
	return nil
}

func decodeRecord(data []byte) (record, error) {
	if len(data) > maxRecord {
		return record{}, fmt.Errorf("its record has %d bytes: want at most %d", len(data), maxRecord)
	}
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return record{}, fmt.Errorf("its record cannot be read: %w", err)
	}
	if r.Schema != recordSchema {
		return record{}, fmt.Errorf("its record has schema %d: want %d", r.Schema, recordSchema)
	}
	return r, nil
}

// recordKey is that of the current document's record.
func recordKey(root, scope string) string {
	return etcdkv.CleanRoot(root) + "config-record/" + scope
}

func recordPrefix(root, scope string) string { return recordKey(root, scope) + "/" }

// earlierRecordKey is that of an entry of the history.
func earlierRecordKey(root, scope string, revision int64) string {
	return fmt.Sprintf("%s%d", recordPrefix(root, scope), revision)
}
