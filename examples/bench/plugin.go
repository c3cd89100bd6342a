package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/perennial-go/perennial/plugin"
	"github.com/perennial-go/perennial/plugin/pluginpb"
)

const callTarget = 1.1

// measurePlugin gives the same task in turns to a plugin and to a plain gRPC
// server, each in a process of its own behind a Unix socket.
func measurePlugin(ctx context.Context, b *bench) (f figure, err error) {
	echo, err := b.build(ctx, "bench/echo", "")
	if err != nil {
		return figure{}, err
	}
	manager, stop, err := b.startPlugin(ctx, echo)
	if err != nil {
		return figure{}, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	dir, err := b.path("grpc")
	if err != nil {
		return figure{}, err
	}
	plain, err := b.launch(ctx, "serves on ", echo, "--serve", filepath.Join(dir, "socket"))
	if err != nil {
		return figure{}, err
	}
	defer func() { err = errors.Join(err, plain.stop()) }()
	conn, err := grpc.NewClient("unix:"+plain.url, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return figure{}, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	raw := pluginpb.NewPluginClient(conn)

	for _, size := range []struct {
		name  string
		bytes int
	}{{"8 B", 8}, {"64 KiB", 64 << 10}} {
		payload := bytes.Repeat([]byte("x"), size.bytes)
		a := &series{what: "plugin.Manager.Execute, " + size.name, unit: "µs"}
		t := &series{what: "plain gRPC, " + size.name, unit: "µs"}
		n := b.times(5000, 300)
		for i := range n + n/10 {
			if i == n/10 { // so many were for warming up
				a.samples, t.samples = nil, nil
			}
			began := time.Now()
			if err := executePlugin(ctx, manager, payload); err != nil {
				return figure{}, err
			}
			between := time.Now()
			if err := executePlain(ctx, raw, payload); err != nil {
				return figure{}, err
			}
			a.addTime(between.Sub(began))
			t.addTime(time.Since(between))
		}
		f.Measures = append(f.Measures, measures(a, t)...)
		f.Verdicts = append(f.Verdicts, within("plugin / plain gRPC, "+size.name+", median", "×", a.median()/t.median(), callTarget))
	}
	f.Notes = []string{"both calls stream one result of the size of the task, over a Unix socket and without TLS"}
	return f, nil
}

// startPlugin runs a manager with the one plugin.
func (b *bench) startPlugin(ctx context.Context, executable string) (m *plugin.Manager, stop func() error, err error) {
	dir, state, err := b.installEcho(executable)
	if err != nil {
		return nil, nil, err
	}
	if m, err = plugin.New(plugin.Config{Dir: dir, StateDir: state, HostVersion: "1.0.0", Required: []string{"echo"}}); err != nil {
		return nil, nil, err
	}
	run, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- m.Run(run) }()
	stop = func() error {
		cancel()
		return <-done
	}
	if err := until(ctx, "the plugin runs", startLimit, func() bool { return m.Ready() == nil }); err != nil {
		return nil, nil, errors.Join(err, m.Ready(), stop())
	}
	return m, stop, nil
}

// installEcho makes directories for a host and puts the plugin into one.
func (b *bench) installEcho(executable string) (dir, state string, err error) {
	if dir, err = b.path("plugins"); err != nil {
		return "", "", err
	}
	if state, err = b.path("state"); err != nil {
		return "", "", err
	}
	_, err = plugin.Install(dir, executable, plugin.Manifest{Name: "echo", Version: "1.0.0", Capabilities: []string{"echo"}})
	return dir, state, err
}

func executePlugin(ctx context.Context, m *plugin.Manager, payload []byte) error {
	results := 0
	err := m.Execute(ctx, "echo", plugin.Task{ID: "bench", Capability: "echo", Payload: payload}, func(r plugin.Result) error {
		results++
		return sameSize(r.Payload, payload)
	})
	return judge(err, results)
}

func executePlain(ctx context.Context, client pluginpb.PluginClient, payload []byte) error {
	stream, err := client.Execute(ctx, &pluginpb.Task{Id: "bench", Capability: "echo", Payload: payload})
	if err != nil {
		return err
	}
	for results := 0; ; results++ {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return judge(nil, results)
		}
		if err != nil {
			return err
		}
		if err := sameSize(r.GetPayload(), payload); err != nil {
			return err
		}
	}
}

func sameSize(got, want []byte) error {
	if len(got) != len(want) {
		return fmt.Errorf("want %d bytes back, found %d", len(want), len(got))
	}
	return nil
}

func judge(err error, results int) error {
	if err == nil && results != 1 {
		err = fmt.Errorf("want one result, found %d", results)
	}
	return err
}
