package plugin

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/waittest"
)

// A host that was started anew adopts what is not its child.
func TestAdoptedProcessIsWatchedAndEndedWithItsGroup(t *testing.T) {
	b := newBench(t)
	first := b.start(t, script(t, await+fmt.Sprintf(strayScript, "$(cat go)")), Limits{})
	greet(t, first)
	by := `env -i PATH=/usr/bin:/bin`
	if err := first.handle.signalGroup(0); err != nil {
		by = "" // before Linux 6.9 its environment is all that it is found by
	}
	if err := os.WriteFile(filepath.Join(b.room, "go.tmp"), []byte(by), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(b.room, "go.tmp"), filepath.Join(b.room, "go")); err != nil {
		t.Fatal(err)
	}
	waittest.Until(t, "the other member of the group runs", func() bool {
		data, err := os.ReadFile(filepath.Join(b.room, "pid"))
		return err == nil && len(data) > 0
	})
	first.detach()

	out, err := openOutput(b.room, b.logs.file("probe"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	cfg := processConfig{dir: b.room, out: out, log: slog.New(slog.DiscardHandler)}
	if _, err := adoptProcess(first.pid(), first.identity()+"1", cfg); err == nil {
		t.Error("another process with its id would be adopted")
	}
	p, err := adoptProcess(first.pid(), first.identity(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if u := p.usage(); u.RSSBytes == 0 {
		t.Error("an adopted process is not measured")
	}
	first.kill() // it is not its any more
	if gone(p.pid()) {
		t.Fatal("who detached killed it")
	}
	// The leader dies; the group's other member must not stay.
	if err := syscall.Kill(p.pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-p.exited
	<-first.exited // reaped, although it was given away
	awaitDeath(t, strayPID(t, b))
	<-out.done
}

func TestAdoptedProcessIsKilledByItsHandle(t *testing.T) {
	b := newBench(t)
	first := b.start(t, script(t, deaf), Limits{})
	greet(t, first)
	first.detach()
	out, err := openOutput(b.room, b.logs.file("probe"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	p, err := adoptProcess(first.pid(), first.identity(), processConfig{dir: b.room, out: out, log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := p.end(ctx); err != nil {
		t.Error(err)
	}
	<-first.exited
	<-out.done
	if p.usage() != (Usage{}) {
		t.Error("a dead process is measured")
	}
}
