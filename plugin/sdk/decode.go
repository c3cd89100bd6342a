package sdk

import (
	"bytes"
	"encoding/json"

	"github.com/perennial-go/perennial/internal/strictjson"
)

// maxDepth is how deep the settings of a manifest may be nested.
const maxDepth = 32

// Decode reads one JSON object, such as settings or a task's payload, into the
// struct that into points to. It is strict: an unknown or a repeated member,
// data after the object or more than 32 levels are errors, so that a slip of
// whoever wrote it is told and not passed over. Fields that data does not name
// stay as they are; nil data names none.
func Decode(data []byte, into any) error {
	if len(data) == 0 {
		return nil
	}
	if err := strictjson.Check(data, maxDepth); err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	return dec.Decode(into)
}
