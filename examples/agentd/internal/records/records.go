// Package records is agentd's HTTP interface: POST /v1/records takes
// newline-delimited JSON and answers 202 once it is on disk, GET /v1/info
// says which process answers.
package records

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/perennial-go/perennial/examples/internal/spool"
)

// MaxBodyBytes bounds the body of one request.
const MaxBodyBytes = 8 << 20

// MaxPendingBytes bounds the bodies of all requests in progress; requests
// beyond it get 503, so that a burst cannot exhaust the memory.
const MaxPendingBytes = 256 << 20

// Config says what the handler needs. Spool and Info must be set.
type Config struct {
	Spool *spool.Spool
	// Info is called for every GET /v1/info, concurrently; its result is
	// encoded as JSON.
	Info func() any
	// ReadTimeout is called for every request and bounds the reading of its
	// body; nil or a result of 0 means 30 s.
	ReadTimeout func() time.Duration
	// Logger gets what a client cannot mend; nil discards.
	Logger *slog.Logger
}

type handler struct {
	Config
	pending atomic.Int64
}

// New returns the handler.
func New(cfg Config) (http.Handler, error) {
	if cfg.Spool == nil || cfg.Info == nil {
		return nil, errors.New("records: want a Spool and an Info function, found nil: set both in Config")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	h := &handler{Config: cfg}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/records", h.post)
	mux.HandleFunc("GET /v1/info", h.info)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Bounded here and not by http.Server.ReadTimeout, so that a change of
		// the configuration reaches connections that are open already. On every
		// path: net/http reads on in a body that nobody wanted.
		h.setDeadline(w, time.Now().Add(h.readTimeout()))
		mux.ServeHTTP(w, r)
	}), nil
}

// failure is an answer that stored nothing.
type failure struct {
	Status int    `json:"-"`
	Reason string `json:"error"`
	Line   int    `json:"line,omitempty"`
}

func (h *handler) post(w http.ResponseWriter, r *http.Request) {
	accepted, fail := h.store(w, r)
	if fail == nil {
		reply(w, http.StatusAccepted, map[string]int{"accepted": accepted})
		return
	}
	if fail.Status >= 500 {
		h.Logger.Error("records refused", "code", fail.Status, "reason", fail.Reason, "address", r.RemoteAddr)
		w.Header().Set("Retry-After", "1")
	}
	reply(w, fail.Status, fail)
}

// store checks the whole body before it appends anything: a request is
// stored whole or not at all.
func (h *handler) store(w http.ResponseWriter, r *http.Request) (int, *failure) {
	if e := r.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return 0, &failure{Status: http.StatusUnsupportedMediaType, Reason: fmt.Sprintf("want a body without Content-Encoding, found %q: send it plain", e)}
	}
	body, held, fail := h.read(w, r)
	defer h.pending.Add(-held)
	if fail != nil {
		// The deadline stays, so that the server does not wait for the rest
		// of a body that nobody wants.
		w.Header().Set("Connection", "close")
		return 0, fail
	}
	h.setDeadline(w, time.Time{})
	batch, err := spool.Parse(body)
	if line, ok := errors.AsType[*spool.LineError](err); ok {
		return 0, &failure{Status: http.StatusBadRequest, Line: line.Line, Reason: line.Error() + "; nothing of this request is stored"}
	}
	if batch.Len() == 0 {
		return 0, &failure{Status: http.StatusBadRequest, Reason: "want at least one JSON object on a line of its own, found an empty body"}
	}
	if err := h.Spool.Append(batch); err != nil {
		return 0, refusal(err)
	}
	return batch.Len(), nil
}

func (h *handler) readTimeout() time.Duration {
	if h.ReadTimeout != nil {
		if d := h.ReadTimeout(); d > 0 {
			return d
		}
	}
	return 30 * time.Second
}

// setDeadline does nothing where the connection is closed or has no
// deadlines: the read that follows tells.
func (h *handler) setDeadline(w http.ResponseWriter, at time.Time) {
	_ = http.NewResponseController(w).SetReadDeadline(at)
}

// read returns the body and how many bytes of MaxPendingBytes it holds,
// which the caller gives back also when it fails.
func (h *handler) read(w http.ResponseWriter, r *http.Request) (body []byte, held int64, fail *failure) {
	tooLarge := &failure{Status: http.StatusRequestEntityTooLarge, Reason: fmt.Sprintf("want a body of at most %d bytes, found more: send the records in several requests", MaxBodyBytes)}
	if r.ContentLength > MaxBodyBytes {
		return nil, 0, tooLarge
	}
	from := http.MaxBytesReader(w, r.Body, MaxBodyBytes)
	body = make([]byte, 0, max(r.ContentLength, 512)+1)
	for {
		if grown := int64(cap(body)) - held; grown > 0 {
			held += grown
			if h.pending.Add(grown) > MaxPendingBytes {
				return nil, held, &failure{Status: http.StatusServiceUnavailable, Reason: fmt.Sprintf("more than %d bytes of requests are in progress: try again in a second", MaxPendingBytes)}
			}
		}
		n, err := from.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		if errors.Is(err, io.EOF) {
			return body, held, nil
		}
		if err != nil {
			return nil, held, unreadable(err, tooLarge)
		}
		if len(body) == cap(body) {
			body = append(body, 0)[:len(body)]
		}
	}
}

func unreadable(err error, tooLarge *failure) *failure {
	var limit *http.MaxBytesError
	switch {
	case errors.As(err, &limit):
		return tooLarge
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &failure{Status: http.StatusRequestTimeout, Reason: "the body did not arrive within the read timeout (http.read_timeout): send it faster or in smaller requests"}
	}
	return &failure{Status: http.StatusBadRequest, Reason: "the body could not be read: " + err.Error()}
}

func refusal(err error) *failure {
	status := http.StatusInternalServerError
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		status = http.StatusInsufficientStorage
	case errors.Is(err, spool.ErrClosed):
		status = http.StatusServiceUnavailable
	}
	return &failure{Status: status, Reason: err.Error()}
}

func (h *handler) info(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, h.Info())
}

// replyTime bounds the writing of an answer, however long its request took.
const replyTime = 30 * time.Second

func reply(w http.ResponseWriter, status int, value any) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(replyTime)) // not of every server
	body, err := json.Marshal(value)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // a client that has gone needs no answer
}
