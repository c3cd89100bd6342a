// Package strictjson refuses JSON that two readers could understand
// differently, before encoding/json reads it.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/perennial-go/perennial/internal/boundedio"
)

// Check returns nil if data is one JSON object, nested at most depth levels,
// in which no member occurs twice, also not in different case, which
// encoding/json would take for the same.
func Check(data []byte, depth int) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	first, err := dec.Token()
	if err != nil {
		return fmt.Errorf("not valid JSON: %w", boundedio.NoEOF(err))
	}
	if first != json.Delim('{') {
		return errors.New("not a JSON object")
	}
	c := checker{dec: dec, depth: depth}
	if err := c.container(true, 1); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("data after the JSON document")
	}
	return nil
}

type checker struct {
	dec   *json.Decoder
	depth int
}

// container reads to the end of an object or array whose opening delimiter
// has been read.
func (c checker) container(object bool, level int) error {
	if level > c.depth {
		return fmt.Errorf("JSON nested deeper than %d levels", c.depth)
	}
	seen := map[string]bool{}
	for key := object; ; key = object && !key {
		token, err := c.dec.Token()
		if err != nil {
			return fmt.Errorf("not valid JSON: %w", boundedio.NoEOF(err))
		}
		delim, isDelim := token.(json.Delim)
		switch {
		case isDelim && (delim == '}' || delim == ']'):
			return nil
		case isDelim:
			if err := c.container(delim == '{', level+1); err != nil {
				return err
			}
		case key:
			name, _ := token.(string)
			if seen[Fold(name)] {
				return fmt.Errorf("JSON member %.60q occurs twice", name)
			}
			seen[Fold(name)] = true
		}
	}
}

// Fold gives names that encoding/json takes for the same the same form.
func Fold(name string) string { return strings.ToLower(strings.ToUpper(name)) }
