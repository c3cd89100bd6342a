package config

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"sync"
	"time"

	"github.com/perennial-go/perennial/internal/backoff"
	"github.com/perennial-go/perennial/internal/etcdkv"
)

// ErrNoConfig means that neither etcd nor the last-known-good file gave a
// first configuration.
var ErrNoConfig = errors.New("no configuration to start with")

// ApplyAttempts is how often a configuration is tried that subscribers refuse.
const ApplyAttempts = 5

// Run loads the configuration and follows it until ctx ends, whose error it
// then returns. It returns an error wrapping ErrNoConfig if there is nothing
// to start with: etcd did not answer in time, or what it holds or a local file
// says is bad, and the last-known-good file is of no use either. After that
// first one it outlasts everything. It can be called once.
func (s *Store[T]) Run(ctx context.Context, src Source) error {
	if s.started.Swap(true) {
		return errors.New("config: Run called twice")
	}
	places, err := src.places()
	if err != nil {
		return err
	}
	keys, _ := src.keys()
	env, notes, err := s.begin(src.Sections)
	if err != nil {
		return err
	}
	s.report.begin(src.OnStatus, notes)
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()

	r := &runner[T]{
		Store:  s,
		keeper: &keeper{path: src.File, keys: keys, inCharge: src.InCharge},
		local:  &localFiles{paths: s.cfg.Files, maxBytes: s.cfg.MaxBytes},
		origin: OriginFile, places: places, overlay: src.Overlay,
		views: make(chan view),
		files: make(chan []document),
		errs:  make(chan error),
		pause: backoff.Backoff{Min: time.Second, Max: 30 * time.Second},
		known: readings{},
	}
	r.layers = layers{files: r.local.read(), env: env}
	watch, err := etcdkv.NewWatch(etcdkv.WatchConfig{
		Client:   src.Client,
		Keys:     keys,
		OnChange: func(v etcdkv.View) { send(ctx, r.views, viewOf(keys, v)) },
		OnError:  func(err error) { send(ctx, r.errs, err) },
		Logger:   s.cfg.Logger,
	})
	if err != nil {
		return err
	}
	r.report.listens(watch.Heard)
	wg.Go(func() { _ = watch.Run(ctx) }) // ends with ctx only
	if err := r.load(ctx, src); err != nil {
		return err
	}
	if len(s.cfg.Files) > 0 {
		wg.Go(func() { r.local.follow(ctx, s.cfg.FilesEvery, r.files) })
	}
	return r.follow(ctx)
}

// begin lets the sections in and reads the environment.
func (s *Store[T]) begin(list []Section) (env []document, notes []string, err error) {
	t := reflect.TypeFor[T]()
	if s.sections, err = checked(list, t); err != nil {
		return nil, nil, err
	}
	parts, err := s.sections.defaults()
	if err != nil {
		return nil, nil, err
	}
	s.sections.subscribe(&s.subs, parts)
	vars := s.variables
	for i, section := range s.sections {
		more, err := variables(s.cfg.EnvPrefix, reflect.TypeOf(parts[i]), []string{section.Name})
		if err != nil {
			return nil, nil, err
		}
		vars = append(vars, more...)
	}
	set, unknown, err := readEnvironment(s.cfg.EnvPrefix, vars, os.Environ())
	if err != nil {
		return nil, nil, fmt.Errorf("environment: %w", err)
	}
	for _, name := range unknown {
		note := fmt.Sprintf("the environment variable %s sets no field: check the spelling, or remove it", name)
		notes = append(notes, note)
		s.cfg.Logger.Warn("an environment variable sets no field", "name", name)
	}
	if set != nil {
		env = []document{{Key: environment, local: true, tree: set}}
	}
	return env, notes, nil
}

// runner is what Run's goroutine owns. The channels are unbuffered: while it
// is busy the watch folds changes together.
type runner[T any] struct {
	*Store[T]
	keeper *keeper
	local  *localFiles
	layers layers
	good   layers // in force; of the last-known-good file's only what etcd had
	known  readings
	origin string // of the documents that layers has for etcd
	// own are the documents that etcd holds, as heard, without the overlay;
	// meaningless where origin is OriginFile.
	own     []document
	places  []spot
	overlay *Overlay // may be nil
	views   chan view
	files   chan []document
	errs    chan error

	refused []document // by failure; nil = none
	failure *Failure
	pause   backoff.Backoff
	again   <-chan time.Time // when to try them again; nil = not
}

func send[V any](ctx context.Context, to chan<- V, v V) {
	select {
	case to <- v:
	case <-ctx.Done():
	}
}

func (r *runner[T]) follow(ctx context.Context) error {
	for {
		select {
		case v := <-r.views:
			if r.heard(v) {
				// Before it is told, and whatever ends Run next: a start that does not
				// know it takes a store that has grown meanwhile for one in which
				// somebody has deleted the documents.
				r.noteKept(r.keeper.keep(r.good))
			}
			r.tellLost()
			_ = r.apply(ctx) // reported in the status
		case docs := <-r.files:
			r.layers.files = docs
			_ = r.apply(ctx)
		case <-r.overlay.changes():
			r.lay()
			_ = r.apply(ctx)
		case <-r.again:
			r.again = nil
			_ = r.try(ctx)
		case <-r.subs.freed:
			if r.failure != nil && r.failure.hanging {
				_ = r.try(ctx)
			}
		case err := <-r.errs:
			r.report.etcdError(err)
		case <-r.keeper.inCharge:
			r.noteKept(r.keeper.release())
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// heard takes over what etcd holds, unless it has lost what runs, and reports
// whether that is news.
func (r *runner[T]) heard(v view) (lost bool) {
	r.report.etcdError(nil)
	if !v.lacks(r.good) {
		r.own, r.layers.store, r.origin = v.documents, v.store, OriginEtcd
		r.lay()
		return false
	}
	lost = !r.good.store.Lost
	if lost {
		r.cfg.Logger.Error("configuration lost in etcd", "error", errLost)
	}
	r.good.store.Lost = true
	r.layers.etcd, r.layers.store = r.good.etcd, r.good.store
	return lost
}

// lay lays the overlay over what etcd holds, or over what was kept of it, until
// it is heard.
func (r *runner[T]) lay() {
	if r.origin == OriginEtcd && !r.layers.store.Lost {
		r.layers.etcd = r.overlay.over(r.places, r.own, true)
		return
	}
	r.layers.etcd = r.overlay.over(r.places, r.layers.etcd, false)
}

// tellLost has the status say whether what runs is what etcd has lost.
func (r *runner[T]) tellLost() {
	if r.layers.store.Lost {
		r.report.lost(errLost)
		return
	}
	r.report.lost(nil)
}

// load brings the first configuration into force.
func (r *runner[T]) load(ctx context.Context, src Source) error {
	if src.PreferFile {
		if err := r.loadFile(ctx); err == nil {
			return nil
		}
	}
	timer := time.NewTimer(r.cfg.LoadTimeout)
	defer timer.Stop()
	var lastErr error
	for {
		select {
		case v := <-r.views:
			return r.loadFrom(ctx, v)
		case lastErr = <-r.errs:
			r.report.etcdError(lastErr)
		case <-timer.C:
			err := fmt.Errorf("etcd at %s did not answer within %s", etcdkv.Endpoints(src.Client), r.cfg.LoadTimeout)
			if lastErr == nil { // the first attempt still waits for a connection
				lastErr = etcdkv.LastFailure(src.Client)
			}
			if lastErr != nil {
				err = fmt.Errorf("%w (%w)", err, lastErr)
			}
			r.report.etcdError(err)
			return r.fallBack(ctx, err)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// loadFrom starts on what etcd holds.
func (r *runner[T]) loadFrom(ctx context.Context, v view) error {
	if len(v.documents) == 0 {
		if kept, err := r.keeper.read(r.cfg.MaxBytes, len(r.cfg.Files)); err == nil {
			r.good = kept.fromEtcd()
		}
	}
	r.heard(v)
	r.tellLost()
	if r.origin == OriginFile { // etcd has lost what runs
		return r.fallBack(ctx, errLost)
	}
	if err := r.apply(ctx); err != nil {
		return r.fallBack(ctx, err)
	}
	return nil
}

// fallBack starts on the file because of what is wrong with etcd.
func (r *runner[T]) fallBack(ctx context.Context, wrong error) error {
	err := r.loadFile(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err == nil {
		r.cfg.Logger.Warn("starting on the last-known-good configuration", "error", wrong)
		return nil
	}
	return fmt.Errorf("%w: %w, and there is no last-known-good configuration (%w): make etcd reachable and what it holds good, then start again", ErrNoConfig, wrong, err)
}

// loadFile starts on what was kept, with the host's own files as they are now,
// or, should they be bad, as they were then.
func (r *runner[T]) loadFile(ctx context.Context) error {
	kept, err := r.keeper.read(r.cfg.MaxBytes, len(r.cfg.Files))
	if err != nil {
		return err
	}
	now := layers{files: r.layers.files, env: r.layers.env, etcd: kept.Documents}
	bad := r.bring(ctx, now.documents(), OriginFile, false)
	if bad != nil && !same(now.files, kept.Files) && ctx.Err() == nil {
		r.report.refused(bad)
		now.files = kept.files()
		bad = r.bring(ctx, now.documents(), OriginFile, false)
	}
	if bad != nil {
		return fmt.Errorf("%s: %w", r.keeper.path, bad)
	}
	lost := r.good.store.Lost
	r.good = kept.fromEtcd()
	r.overlay.applied(r.places, r.good.etcd)
	r.good.store.Lost = r.good.store.Lost || lost
	if r.origin == OriginFile {
		r.layers.etcd, r.layers.store = r.good.etcd, r.good.store
	}
	if lost { // the files that came into force, not those that may be bad
		kept := r.good
		kept.files = now.files
		r.noteKept(r.keeper.keep(kept))
	}
	return nil
}

// bring builds docs and brings that into force. What comes from etcd is
// watched for crashes; what was kept is known to work. latest: docs are what was
// seen last.
func (r *runner[T]) bring(ctx context.Context, docs []document, origin string, latest bool) *Failure {
	next, bad := r.build(docs, r.known)
	if bad != nil {
		return bad
	}
	if origin != OriginEtcd {
		return r.put(ctx, next, docs, origin, latest, func() {})
	}
	if bad := r.keeper.crashed(docs); bad != nil {
		return bad
	}
	began := false
	bad = r.put(ctx, next, docs, origin, latest, func() {
		began = true
		r.noteKept(r.keeper.try(digestOf(docs)))
	})
	if began {
		if err := r.keeper.tried(); err != nil {
			r.noteKept(err)
		}
	}
	return bad
}

// apply brings the layers into force, or reports why not. What was refused and
// is the same again is neither tried nor reported again.
func (r *runner[T]) apply(ctx context.Context) error {
	if r.failure != nil && same(r.layers.documents(), r.refused) {
		r.report.refused(r.failure)
		r.tellOverlay(r.failure)
		return r.failure
	}
	r.refused, r.failure, r.again = nil, nil, nil
	r.pause.Reset()
	return r.try(ctx)
}

func (r *runner[T]) try(ctx context.Context) error {
	docs := r.layers.documents()
	bad := r.bring(ctx, docs, r.origin, true)
	if bad != nil {
		if ctx.Err() != nil {
			return ctx.Err() // what it was refused for is the end
		}
		if bad.hanging {
			bad.Attempts = 0
		}
		if r.failure != nil {
			bad.Attempts += r.failure.Attempts
		}
		r.report.refused(bad)
		r.refused, r.failure = docs, bad
		if bad.Subscriber != "" && !bad.hanging && bad.Attempts < ApplyAttempts {
			r.again = time.After(r.pause.Next())
		}
		r.cfg.Logger.Error("configuration refused: the running one stays",
			"revision", bad.Revision, "before", r.Snapshot().Revision, "count", bad.Attempts, "error", bad)
		r.tellOverlay(bad)
		return bad
	}
	r.refused, r.failure, r.good = nil, nil, r.layers
	// Kept after the subscribers: a configuration that crashes the program
	// there is not one to start on without etcd.
	r.noteKept(r.keeper.keep(r.layers))
	r.overlay.applied(r.places, r.layers.etcd)
	return nil
}

// tellOverlay tells it of layers that were refused, unless they are tried again.
func (r *runner[T]) tellOverlay(bad *Failure) {
	if r.again == nil && !bad.hanging {
		r.overlay.refused(r.places, r.layers.etcd, bad)
	}
}

func (s *Store[T]) noteKept(err error) {
	s.report.fileError(err)
	if err != nil {
		s.cfg.Logger.Error("configuration not kept on disk", "error", err)
	}
}
