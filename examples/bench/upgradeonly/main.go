// Command upgradeonly is bareflip on the package upgrade: the same two paths,
// and no registry, configuration, plugins or health beside them. POST
// /v1/upgrade with a pin replaces it by that release. SIGTERM stops it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/perennial-go/perennial/examples/bench/internal/service"
	"github.com/perennial-go/perennial/upgrade"
	"github.com/perennial-go/perennial/upgrade/release"
)

var version = "0.0.0"

type flags struct {
	listen, spool, stateDir, repo, trust string
	probation, healthEvery, tail         time.Duration
}

func main() {
	started := time.Now()
	var f flags
	flag.StringVar(&f.listen, "listen", "127.0.0.1:0", "`address` to serve on; a successor keeps it")
	flag.StringVar(&f.spool, "spool", "", "`directory` for the records")
	flag.StringVar(&f.stateDir, "state-dir", "", "state `directory`")
	flag.StringVar(&f.repo, "repo", "", "`directory` of the releases")
	flag.StringVar(&f.trust, "trust", "", "`file` with the public key of the releases")
	flag.DurationVar(&f.probation, "probation", 0, "how long a new release serves before it is trusted")
	flag.DurationVar(&f.healthEvery, "health-every", 0, "pause between a successor's reports")
	flag.DurationVar(&f.tail, "tail", 0, "how long a replaced process goes on answering at least")
	flag.Parse()
	if err := run(f, started); err != nil {
		fmt.Fprintln(os.Stderr, "upgradeonly:", err)
		os.Exit(1)
	}
}

func run(f flags, started time.Time) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	u, err := upgrader(f, log)
	if err != nil {
		return err
	}
	if err := u.Open(ctx); err != nil {
		return err
	}
	records, err := service.Open(f.spool, started)
	if err != nil {
		return err
	}
	listener, err := u.Listen("tcp", f.listen)
	if err != nil {
		return err
	}
	handler := records.Handler()
	handler.HandleFunc("POST /v1/upgrade", control(u))
	server := upgrade.NewHTTPServer(&http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second})
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := make(chan error, 1)
	go func() {
		failed <- server.Serve(listener)
		cancel()
	}()
	fmt.Printf("records on http://%s\n", listener.Addr())
	if err := u.Serving(); err != nil {
		return err
	}
	err = u.Run(ctx)
	drain := upgrade.Drain{Tail: f.tail}
	if ctx.Err() != nil {
		drain.Idle = time.Millisecond // nobody takes over: no use in waiting
		err = nil
	} else if errors.Is(err, upgrade.ErrSuperseded) {
		err = nil
	}
	err = errors.Join(err, server.Drain(context.Background(), drain))
	err = errors.Join(err, <-failed, records.Close(), u.Close())
	log.Info("upgrade", "release", u.Status().To.Version, "state", "gone")
	return err
}

func upgrader(f flags, log *slog.Logger) (*upgrade.Upgrader, error) {
	source, err := release.NewDir(f.repo)
	if err != nil {
		return nil, err
	}
	trust, err := release.LoadTrust(f.trust)
	if err != nil {
		return nil, err
	}
	return upgrade.New(upgrade.Config{
		StateDir: f.stateDir, Name: "upgradeonly", Version: version, Source: source, Trust: trust,
		Probation: f.probation, HealthEvery: f.healthEvery, Retention: time.Second,
		Logger: log,
	})
}

// control puts a pin in line. It answers before the release is looked at.
func control(u *upgrade.Upgrader) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var pin release.Pin
		if err := json.NewDecoder(r.Body).Decode(&pin); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		u.Request(upgrade.Request{ID: pin.Version, By: "bench", Pin: pin})
		w.WriteHeader(http.StatusAccepted)
	}
}
