package config

import (
	"encoding/json"
	"fmt"
	"reflect"
	"time"
)

// Kept is a last-known-good file as people may see it.
type Kept struct {
	// Keys are the documents that applied, the weakest first.
	Keys      []string       `json:"keys"`
	Revision  int64          `json:"revision"`
	Saved     time.Time      `json:"saved"`
	Documents []KeptDocument `json:"documents"`
	// Files are the host's own documents.
	Files []KeptDocument `json:"files,omitempty"`
}

// KeptDocument is one document of it.
type KeptDocument struct {
	Key      string `json:"key"`
	Revision int64  `json:"revision,omitempty"`
	// Text is the document with its values hidden; empty where Error says why
	// it cannot be shown.
	Text  string `json:"text,omitempty"`
	Error string `json:"error,omitempty"`
}

// Kept returns what the last-known-good file holds, with values hidden as
// Document hides them, and besides the texts that were: who shows something
// that may quote them has to take them out of it. data is the file's content.
func (r Redaction) Kept(data []byte) (k Kept, hidden []string, err error) {
	var g lastGood
	if err := json.Unmarshal(data, &g); err != nil {
		return k, nil, fmt.Errorf("the last-known-good file is damaged: %w", err)
	}
	if g.Schema != fileSchema {
		return k, nil, fmt.Errorf("the last-known-good file has schema %d: want %d", g.Schema, fileSchema)
	}
	k = Kept{Keys: g.Keys, Revision: g.Revision, Saved: g.Saved}
	show := func(documents []document) (shown []KeptDocument) {
		for _, d := range documents {
			one := KeptDocument{Key: d.Key, Revision: d.Revision}
			text, texts, err := r.document(d.Data)
			if one.Text = string(text); err != nil {
				// The error may quote the document.
				one.Text, one.Error = "", "it is no document that can be read"
			}
			hidden = append(hidden, texts...)
			shown = append(shown, one)
		}
		return shown
	}
	k.Documents, k.Files = show(g.Documents), show(g.Files)
	return k, hidden, nil
}

// Veil takes the secrets of the configuration in force out of text, which may
// quote them. Those of fewer than 4 bytes stay.
func (s *Store[T]) Veil(text string) string {
	var secrets []string
	secretsIn(reflect.ValueOf(s.Snapshot().Value), false, &secrets)
	return veil(text, secrets)
}
