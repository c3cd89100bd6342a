package config

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/perennial-go/perennial/internal/etcdkv"
)

// ErrNoConfig means that neither etcd nor the last-known-good file gave a
// first configuration.
var ErrNoConfig = errors.New("no configuration to start with")

// Run loads the configuration and follows it until ctx ends, whose error it
// then returns. It returns an error wrapping ErrNoConfig if there is nothing
// to start with: etcd did not answer in time, or what it holds is bad, and
// the last-known-good file is of no use either. After that first one it
// outlasts everything. It can be called once.
func (s *Store[T]) Run(ctx context.Context, src Source) error {
	if s.started.Swap(true) {
		return errors.New("config: Run called twice")
	}
	keys, err := src.keys()
	if err != nil {
		return err
	}
	s.report.tell(src.OnStatus)
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()

	f := follower{
		keeper: &keeper{path: src.File, keys: keys, inCharge: src.InCharge},
		views:  make(chan []document),
		errs:   make(chan error),
	}
	watch, err := etcdkv.NewWatch(etcdkv.WatchConfig{
		Client:   src.Client,
		Keys:     keys,
		OnChange: func(v etcdkv.View) { send(ctx, f.views, pick(keys, v)) },
		OnError:  func(err error) { send(ctx, f.errs, err) },
		Logger:   s.cfg.Logger,
	})
	if err != nil {
		return err
	}
	wg.Go(func() { _ = watch.Run(ctx) }) // ends with ctx only
	if err := s.load(ctx, src, f); err != nil {
		return err
	}
	for {
		select {
		case docs := <-f.views:
			_ = s.apply(f.keeper, docs) // reported in the status
		case err := <-f.errs:
			s.report.etcdError(err)
		case <-f.keeper.inCharge:
			s.noteKept(f.keeper.release())
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// follower hands what the watch sees to Run's goroutine. Unbuffered: while
// Run is busy the watch folds changes together.
type follower struct {
	keeper *keeper
	views  chan []document
	errs   chan error
}

func send[V any](ctx context.Context, to chan<- V, v V) {
	select {
	case to <- v:
	case <-ctx.Done():
	}
}

// load brings the first configuration into force.
func (s *Store[T]) load(ctx context.Context, src Source, f follower) error {
	if src.PreferFile {
		if err := s.loadFile(f.keeper); err == nil {
			return nil
		}
	}
	timer := time.NewTimer(s.cfg.LoadTimeout)
	defer timer.Stop()
	var lastErr error
	for {
		select {
		case docs := <-f.views:
			if err := s.apply(f.keeper, docs); err != nil {
				return s.fallBack(f.keeper, err)
			}
			return nil
		case lastErr = <-f.errs:
			s.report.etcdError(lastErr)
		case <-timer.C:
			err := fmt.Errorf("etcd at %s did not answer within %s", etcdkv.Endpoints(src.Client), s.cfg.LoadTimeout)
			if lastErr != nil {
				err = fmt.Errorf("%w (%w)", err, lastErr)
			}
			s.report.etcdError(err)
			return s.fallBack(f.keeper, err)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// fallBack starts on the file because of what is wrong with etcd.
func (s *Store[T]) fallBack(k *keeper, wrong error) error {
	err := s.loadFile(k)
	if err == nil {
		s.cfg.Logger.Warn("starting on the last-known-good configuration", "error", wrong)
		return nil
	}
	return fmt.Errorf("%w: %w, and there is no last-known-good configuration (%w): make etcd reachable and what it holds good, then start again", ErrNoConfig, wrong, err)
}

func (s *Store[T]) loadFile(k *keeper) error {
	docs, err := readFile(k.path, k.keys, s.cfg.MaxBytes)
	if err != nil {
		return err
	}
	value, bad := s.build(docs)
	if bad != nil {
		return fmt.Errorf("%s: %w", k.path, bad)
	}
	s.put(value, revisionOf(docs), OriginFile)
	return nil
}

// apply brings what etcd holds into force, or reports why not.
func (s *Store[T]) apply(k *keeper, docs []document) error {
	s.report.etcdError(nil)
	value, bad := s.build(docs)
	s.report.wanted(revisionOf(docs), bad)
	if bad != nil {
		s.cfg.Logger.Error("configuration refused: the running one stays",
			"wanted", bad.Revision, "running", s.Snapshot().Revision, "error", bad)
		return bad
	}
	s.put(value, revisionOf(docs), OriginEtcd)
	// Kept after OnChange: a configuration that crashes the program there is
	// not one to start on without etcd.
	s.noteKept(k.keep(docs))
	return nil
}

func (s *Store[T]) noteKept(err error) {
	s.report.fileError(err)
	if err != nil {
		s.cfg.Logger.Error("configuration not kept on disk", "error", err)
	}
}
