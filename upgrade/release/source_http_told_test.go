package release

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestEachRetryIsToldWithItsCause(t *testing.T) {
	busy := true
	var told []string
	src := httpSource(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if busy {
			busy = false
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("good"))
	}), HTTPConfig{Retry: func(cause error, pause time.Duration) {
		if pause <= 0 {
			t.Errorf("the pause is %v", pause)
		}
		told = append(told, cause.Error())
	}})
	if got, _, err := readFrom(t.Context(), src, 0); err != nil || string(got) != "good" {
		t.Fatalf("%q, %v", got, err)
	}
	if len(told) != 1 || !strings.Contains(told[0], "503") {
		t.Errorf("told %q, want one retry", told)
	}
}
