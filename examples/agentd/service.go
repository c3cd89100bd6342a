package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/perennial-go/perennial/agent"
	"github.com/perennial-go/perennial/agent/limit"
	"github.com/perennial-go/perennial/config"
	"github.com/perennial-go/perennial/examples/agentd/internal/collect"
	"github.com/perennial-go/perennial/examples/agentd/internal/records"
	"github.com/perennial-go/perennial/examples/agentd/internal/settings"
	"github.com/perennial-go/perennial/examples/internal/spool"
)

// service is agentd's own work, as opposed to the library's.
type service struct {
	flags    *runFlags
	log      *slog.Logger
	out      io.Writer
	settings *config.Store[settings.Settings]
	started  time.Time
	spool    atomic.Pointer[spool.Spool] // nil before start
}

// start opens what the service needs and serves. In an upgrade two processes
// are here at the same time: the spool's files are each process's own, and
// the collectors take turns.
func (s *service) start(_ context.Context, a *agent.Agent) error {
	sp, err := spool.New(spool.Config{Dir: filepath.Join(s.flags.stateDir, "spool")})
	if err != nil {
		return err
	}
	if err := s.followSpool(sp); err != nil {
		return errors.Join(err, sp.Close())
	}
	s.spool.Store(sp)
	handler, err := records.New(records.Config{
		Spool:       sp,
		Info:        func() any { return s.info(a) },
		ReadTimeout: func() time.Duration { return s.settings.Snapshot().Value.HTTP.ReadTimeout },
		Logger:      s.log,
	})
	if err != nil {
		return err
	}
	if err := s.serve(a, "records", s.flags.listen, handler); err != nil {
		return err
	}
	s.tell("health", s.flags.admin.shown(a.AdminAddr()))
	return s.collect(a, sp)
}

// serve begins to answer for what on address, and prints where that is: the
// port may have been left to the system.
func (s *service) serve(a *agent.Agent, what, address string, handler http.Handler) error {
	listener, err := a.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("want to listen on %s: %w; free it, or choose another with --listen", address, err)
	}
	guard, err := limit.New(limit.Config{Limits: recordLimits(), Logger: s.log})
	if err != nil {
		return err
	}
	s.tell(what, "http://"+listener.Addr().String())
	srv := &http.Server{Handler: guard.Handler(handler)}
	guard.Protect(srv)
	a.ServeHTTP(listener, srv)
	return nil
}

// recordLimits bound what clients can cost, far above what one machine's
// producers of records do. The handler bounds the time of a body itself, as
// the configuration says, and the memory of all of them.
func recordLimits() limit.Limits {
	return limit.Limits{
		Rate: 20000, Requests: 2048, Conns: 4096, ConnsPerPeer: 2048,
		BodyBytes: records.MaxBodyBytes, ReadTime: -1, IdleTime: 2 * time.Minute,
	}
}

func (s *service) tell(what, where string) {
	if _, err := fmt.Fprintf(s.out, "%s on %s\n", what, where); err != nil {
		s.log.Warn("standard output cannot be written", "error", err)
	}
}

func (s *service) collect(a *agent.Agent, sp *spool.Spool) error {
	if a.Plugins() == nil {
		return nil
	}
	collector, err := collect.New(collect.Config{
		Plugins: a.Plugins(),
		Spool:   sp,
		Dir:     filepath.Join(s.flags.stateDir, "cursors"),
		Settings: func(name string) ([]byte, bool) {
			return s.settings.Snapshot().Value.Collect(name)
		},
		Logger: s.log,
	})
	if err != nil {
		return err
	}
	a.Go("collector", func(ctx context.Context) error {
		select {
		case <-a.Active(): // until then the incumbent collects
		case <-ctx.Done():
			return nil
		}
		return collector.Run(ctx)
	})
	return nil
}

// stop is called when no request is left.
func (s *service) stop(context.Context) error {
	if sp := s.spool.Load(); sp != nil {
		return sp.Close()
	}
	return nil
}

func (s *service) checkSpool(context.Context) error {
	if sp := s.spool.Load(); sp != nil {
		return sp.Check()
	}
	return nil
}

// info is the answer to GET /v1/info.
type info struct {
	ID      string `json:"id"`
	Version string `json:"version"`
	// Digest is the sha256 of the running executable in hex.
	Digest string `json:"digest"`
	// Manifest is the digest of the release's manifest; empty for an
	// executable that was installed by other means.
	Manifest string    `json:"manifest,omitempty"`
	PID      int       `json:"pid"`
	State    string    `json:"state"`
	Reason   string    `json:"reason,omitempty"`
	Since    time.Time `json:"since"`
	Started  time.Time `json:"started"`
	// ConfigRevision is the etcd revision of the configuration in force.
	ConfigRevision int64  `json:"config_revision"`
	ConfigOrigin   string `json:"config_origin"`
	// Records counts what this process has stored.
	Records int64 `json:"records"`
}

func (s *service) info(a *agent.Agent) info {
	reg, snapshot := a.Info(), s.settings.Snapshot()
	return info{
		ID: reg.ID, Version: reg.Version, Digest: reg.BinaryDigest, Manifest: reg.ManifestDigest, PID: reg.PID,
		State: string(reg.State.State), Reason: reg.State.Reason, Since: reg.State.At, Started: reg.Started,
		ConfigRevision: snapshot.Revision, ConfigOrigin: snapshot.Origin,
		Records: s.spool.Load().Records(),
	}
}
