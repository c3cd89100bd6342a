package config_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/config"
	"github.com/perennial-go/perennial/internal/etcdtest"
	"github.com/perennial-go/perennial/internal/reexec"
	"github.com/perennial-go/perennial/internal/waittest"
)

// The environment of a program that crashes.
const (
	envCrashEtcd = "CONFIG_TEST_ETCD"
	envCrashFile = "CONFIG_TEST_FILE"
)

// TestCrashProcess is a program whose subscriber never comes back from the
// address "crash": its tests kill it there. It prints what it is at.
func TestCrashProcess(t *testing.T) {
	reexec.Begin(t)
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{os.Getenv(envCrashEtcd)}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	store, err := config.New(config.Config[layered]{LoadTimeout: waittest.Patience / 20})
	if err != nil {
		t.Fatal(err)
	}
	addr := func(l *layered) string { return l.HTTP.Addr }
	if _, err := config.Sub(store, "first", addr, func(context.Context, string, string) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := config.Sub(store, "listener", addr, func(ctx context.Context, _, addr string) error {
		fmt.Println("at", addr)
		if addr == "crash" {
			<-ctx.Done()
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	go func() {
		<-store.Ready()
		waittest.Until(t, "the file is kept", func() bool { _, err := os.Stat(os.Getenv(envCrashFile)); return err == nil })
		f := store.Status().LastFailed
		if f == nil {
			f = &config.Failure{}
		}
		fmt.Println("runs", store.Snapshot().Value.HTTP.Addr, store.Snapshot().Origin, f.Attempts)
	}()
	t.Fatal(store.Run(t.Context(), config.Source{Client: client, AgentID: "a1", File: os.Getenv(envCrashFile)}))
}

// crashUntil runs the program until it prints want, and kills it there.
func crashUntil(t *testing.T, etcd, file, want string) {
	t.Helper()
	cmd := reexec.Test(t, "TestCrashProcess", "", envCrashEtcd+"="+etcd, envCrashFile+"="+file)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	giveUp := time.AfterFunc(waittest.Patience, func() { _ = cmd.Process.Kill() })
	defer giveUp.Stop()
	var seen []string
	reached := false
	for lines := bufio.NewScanner(out); lines.Scan(); {
		seen = append(seen, lines.Text())
		if reached = lines.Text() == want; reached {
			_ = cmd.Process.Kill()
		}
	}
	if err := cmd.Wait(); !reached || !reexec.Killed(err) {
		t.Fatalf("want it killed at %q, got %v:\n%s", want, err, strings.Join(seen, "\n"))
	}
}

// TestAConfigurationThatCrashesTheProgramIsLeft: a fleet that restarts into
// the same crash is down, and its service manager gives up on it.
func TestAConfigurationThatCrashesTheProgramIsLeft(t *testing.T) {
	server := etcdtest.Start(t)
	c, file := server.Client(t), goodFile(t)
	publish(t, c, "global", "http: {addr: good}")
	crashUntil(t, server.URL(), file, "runs good etcd 0")
	publish(t, c, "global", "http: {addr: crash}")
	for range 2 {
		crashUntil(t, server.URL(), file, "at crash")
	}
	server.Kill()
	crashUntil(t, server.URL(), file, "runs good file 0")
	server.Restart()
	crashUntil(t, server.URL(), file, "at crash")
	crashUntil(t, server.URL(), file, "runs good file 3")
	publish(t, server.Client(t), "global", "http: {addr: better}")
	crashUntil(t, server.URL(), file, "runs better etcd 0")
	if _, err := os.Stat(file + ".trial"); !os.IsNotExist(err) {
		t.Errorf("the note of a trial is left behind: %v", err)
	}
}
