// Command pluginhost runs the plugins of a directory and shows their metrics,
// as an agent does, and does nothing else.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/perennial-go/perennial/health"
	"github.com/perennial-go/perennial/plugin"
)

func main() {
	dir := flag.String("dir", "", "`directory` of the plugins")
	state := flag.String("state", "", "`directory` of the host's own")
	count := flag.Int("count", 1, "`number` of plugins that must run before it says so")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *dir, *state, *count)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "pluginhost:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, dir, state string, count int) error {
	monitor, err := health.New(health.Config{})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: monitor.Handler(), ReadHeaderTimeout: 10 * time.Second}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener) // ends with Close
	}()
	defer func() {
		_ = server.Close()
		<-served
	}()
	var once sync.Once
	var began time.Time
	m, err := plugin.New(plugin.Config{Dir: dir, StateDir: state, OnChange: func(all []plugin.Status) {
		running, restarts := 0, int64(0)
		for _, s := range all {
			if s.State == plugin.Running {
				running++
			}
			restarts += s.Restarts
		}
		if running == count {
			once.Do(func() {
				fmt.Println("runs them after", time.Since(began), "with restarts:", restarts, "metrics on:", "http://"+listener.Addr().String())
			})
		}
	}})
	if err != nil {
		return err
	}
	if err := monitor.Registry().Register(m.Metrics()); err != nil {
		return err
	}
	began = time.Now()
	return m.Run(ctx)
}
