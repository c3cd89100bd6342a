package agent

import (
	"encoding/json"
	"net/http"

	"github.com/perennial-go/perennial/upgrade"
)

// requested is how a test agent asks itself.
func requested(a *Agent) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var request upgrade.Request
		err := json.NewDecoder(r.Body).Decode(&request)
		if err == nil {
			err = a.Request(request)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	}
}
