// Package service is what the minimal servers of the benchmark serve, so that
// nothing but the way they replace themselves tells them apart.
package service

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/perennial-go/perennial/examples/internal/spool"
)

// Service says which process answers (GET /v1/info) and takes records (POST
// /v1/records), which it acknowledges once they are on disk.
type Service struct {
	spool   *spool.Spool
	started time.Time
}

// Open makes the directory dir for the records. started is when the process's
// own code began to run.
func Open(dir string, started time.Time) (*Service, error) {
	s, err := spool.New(spool.Config{Dir: dir})
	if err != nil {
		return nil, err
	}
	return &Service{spool: s, started: started}, nil
}

// Close waits for the records that are being written.
func (s *Service) Close() error { return s.spool.Close() }

// Handler serves the two paths.
func (s *Service) Handler() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/info", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, map[string]any{"pid": os.Getpid(), "started": s.started})
	})
	mux.HandleFunc("POST /v1/records", s.store)
	return mux
}

func (s *Service) store(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, spool.MaxRecordBytes))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	batch, err := spool.Parse(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err := s.spool.Append(batch); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	reply(w, http.StatusAccepted, map[string]int{"accepted": batch.Len()})
}

func reply(w http.ResponseWriter, status int, value any) {
	body, err := json.Marshal(value)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that has gone needs no answer
}
