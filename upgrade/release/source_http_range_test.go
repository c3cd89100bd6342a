package release

import (
	"bytes"
	"net/http"
	"testing"
)

// A registry in use answers like this to a range without an end.
func TestServerThatRefusesOpenRangesIsReadFromTheStart(t *testing.T) {
	data := content("1.0.0")
	src := httpSource(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Range") != "" {
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			return
		}
		_, _ = w.Write(data)
	}), HTTPConfig{})
	for _, offset := range []int64{0, 1, int64(len(data)) - 1} {
		if got, _, err := readFrom(t.Context(), src, offset); err != nil || !bytes.Equal(got, data[offset:]) {
			t.Errorf("from %d: %d bytes, %v", offset, len(got), err)
		}
	}
}
