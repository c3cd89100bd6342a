package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/perennial-go/perennial/plugin"
	"github.com/perennial-go/perennial/plugin/pluginpb"
)

const firstCallTarget = 1.5

// measurePluginStart starts the same executable in turns: as a plugin under a
// new Manager, as another generation of a plugin that runs, and as a plain
// gRPC server; each until it has done its first task.
func measurePluginStart(ctx context.Context, b *bench) (f figure, err error) {
	echo, err := b.build(ctx, "bench/echo", "")
	if err != nil {
		return figure{}, err
	}
	dir, state, err := b.installEcho(echo)
	if err != nil {
		return figure{}, err
	}
	fi, err := os.Stat(echo)
	if err != nil {
		return figure{}, err
	}
	size := fi.Size()
	bare := &series{what: "plain gRPC server: start to first call", unit: "ms"}
	host := &series{what: "Manager.Run to first call", unit: "ms"}
	checked := &series{what: "of it until the process is started", unit: "ms"}
	again := &series{what: "Manager.Restart to first call", unit: "ms"}
	for n := range 1 + b.times(30, 3) {
		if n == 1 { // the first turn found nothing in the page cache
			bare.samples, host.samples, checked.samples, again.samples = nil, nil, nil, nil
		}
		socket, err := b.path("grpc")
		if err != nil {
			return figure{}, err
		}
		took, err := startPlain(ctx, echo, filepath.Join(socket, "socket"))
		if err != nil {
			return figure{}, fmt.Errorf("plain gRPC server: %w", err)
		}
		bare.addTime(took)
		if err := startHosted(ctx, dir, state, host, checked, again); err != nil {
			return figure{}, fmt.Errorf("plugin: %w", err)
		}
	}
	return figure{
		Measures: measures(bare, host, checked, again),
		Verdicts: []verdict{
			within("Manager.Restart to first call / plain gRPC server, median", "×", again.median()/bare.median(), firstCallTarget),
			{What: "Manager.Run to first call / plain gRPC server, median", Unit: "×", Value: host.median() / bare.median()},
		},
		Notes: []string{
			"before the first task a host makes a room and calls Info, Attach, Start and Health; Restart is what a crash leads to as well, after its back-off",
			fmt.Sprintf("Run begins with nothing known: it reads the directory and hashes the executable and its own copy of it, %s MiB each", number(float64(size)/(1<<20))),
			"both executables are in the page cache",
		},
	}, nil
}

// startPlain starts a plain server, has it do one task and ends it.
func startPlain(ctx context.Context, echo, socket string) (took time.Duration, err error) {
	began := time.Now()
	cmd := exec.CommandContext(ctx, echo, "--serve", socket)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	// Killed, so that it says nothing of its end.
	defer func() { _, _ = cmd.Process.Kill(), cmd.Wait() }()
	if _, err := out.Read(make([]byte, 256)); err != nil {
		return 0, err
	}
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	err = executePlain(ctx, pluginpb.NewPluginClient(conn), []byte("first"))
	return time.Since(began), err
}

// startHosted runs a host until its plugin has done a task, and has it start
// another generation.
func startHosted(ctx context.Context, dir, state string, host, checked, again *series) (err error) {
	running := make(chan struct{})
	var once, starting sync.Once
	var began, started time.Time
	m, err := plugin.New(plugin.Config{Dir: dir, StateDir: state, OnChange: func(all []plugin.Status) {
		if len(all) == 1 && all[0].PID != 0 {
			starting.Do(func() { started = time.Now() })
		}
		if len(all) == 1 && all[0].State == plugin.Running {
			once.Do(func() { close(running) })
		}
	}})
	if err != nil {
		return err
	}
	run, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	began = time.Now()
	go func() { done <- m.Run(run) }()
	defer func() {
		cancel()
		err = errors.Join(err, <-done)
	}()
	late := time.NewTimer(startLimit)
	defer late.Stop()
	select {
	case <-running:
	case <-late.C:
		return fmt.Errorf("it does not run %s after Run: %+v", startLimit, m.List())
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := executePlugin(ctx, m, []byte("first")); err != nil {
		return err
	}
	host.addTime(time.Since(began))
	checked.addTime(started.Sub(began))
	began = time.Now()
	if err := m.Restart(ctx, "echo"); err != nil {
		return err
	}
	if err := executePlugin(ctx, m, []byte("first")); err != nil {
		return err
	}
	again.addTime(time.Since(began))
	return nil
}
