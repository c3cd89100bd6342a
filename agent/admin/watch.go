package admin

import (
	"errors"
	"log/slog"
	"sync"
	"time"
)

// watch tells of files that are not in order, while what they held before is
// in force.
type watch struct {
	policy *policy
	log    *slog.Logger

	mu   sync.Mutex
	next time.Time
	last string
}

// watchEvery bounds how often calls cause a look.
const watchEvery = time.Second

func (w *watch) look() {
	if w.policy.files == nil && w.policy.tokens == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if now.Before(w.next) {
		return
	}
	w.next = now.Add(watchEvery)
	var errs []error
	if w.policy.files != nil {
		_, err := w.policy.files.Current()
		errs = append(errs, err)
	}
	if w.policy.tokens != nil {
		_, err := w.policy.tokens.current()
		errs = append(errs, err)
	}
	text := ""
	if err := errors.Join(errs...); err != nil {
		text = err.Error()
	}
	if text == w.last {
		return
	}
	w.last = text
	if text == "" {
		w.log.Info("files of the admin listener are in order again")
		return
	}
	w.log.Warn("files of the admin listener are not in order: what they held before stays in force", "error", text)
}
