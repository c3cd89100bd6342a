// Command bareflip is what is measured against: the HTTP server of
// tableflip's own example, with the same two paths as agentd and the least
// behind them. SIGHUP replaces it by a new process of the same executable,
// which is ready as soon as it serves; the old one ends with a plain
// http.Server.Shutdown. SIGTERM stops it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/cloudflare/tableflip"

	"github.com/perennial-go/perennial/examples/bench/internal/service"
)

// drainTimeout bounds the end of a process: no further upgrade begins while
// it lives.
const drainTimeout = 30 * time.Second

func main() {
	if err := run(time.Now()); err != nil {
		fmt.Fprintln(os.Stderr, "bareflip:", err)
		os.Exit(1)
	}
}

func run(started time.Time) error {
	listen := flag.String("listen", "127.0.0.1:0", "`address` to serve on; a successor keeps it")
	spool := flag.String("spool", "", "`directory` for the records")
	flag.Parse()
	upgrader, err := tableflip.New(tableflip.Options{})
	if err != nil {
		return err
	}
	defer upgrader.Stop()
	go obey(upgrader, slog.New(slog.NewJSONHandler(os.Stderr, nil)))

	records, err := service.Open(*spool, started)
	if err != nil {
		return err
	}
	listener, err := upgrader.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: records.Handler(), ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	fmt.Printf("records on http://%s\n", listener.Addr())
	if err := upgrader.Ready(); err != nil {
		return err
	}
	select {
	case err := <-failed:
		return err
	case <-upgrader.Exit():
	}
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	return errors.Join(server.Shutdown(ctx), records.Close())
}

// obey acts on signals until the process ends.
func obey(upgrader *tableflip.Upgrader, log *slog.Logger) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM, os.Interrupt)
	for s := range signals {
		if s != syscall.SIGHUP {
			upgrader.Stop()
			continue
		}
		// Until then tableflip refuses, and may notice a moment after others.
		if err := upgrader.WaitForParent(context.Background()); err != nil {
			log.Error("the process before has not ended", "error", err)
		}
		// The same line as the library's, at the same point: the next
		// statement starts the new process.
		log.Info("upgrade", "state", "starting")
		if err := upgrader.Upgrade(); err != nil {
			log.Error("upgrade failed", "error", err)
		}
	}
}
