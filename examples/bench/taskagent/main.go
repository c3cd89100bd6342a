// Command taskagent is one agent so far as tasks go: a lease, and a worker
// whose plugin writes down each run as it begins. Without --agent it is a
// candidate that assigns tasks.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/perennial-go/perennial/examples/internal/sleep"
	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/plugin"
	"github.com/perennial-go/perennial/plugin/dispatch"
)

func main() {
	url := flag.String("etcd", "", "`URL` of an etcd")
	agent := flag.String("agent", "", "`id` of the agent")
	instance := flag.String("instance", "", "`id` of this process")
	runs := flag.String("runs", "", "`file` that the runs are written to")
	ttl := flag.Duration("ttl", 0, "TTL of the lease, or of the election")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *url, *agent, *instance, *runs, *ttl)
	stop()
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "taskagent:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, url, agent, instance, runs string, ttl time.Duration) error {
	c, err := etcdkv.Dial(etcdkv.ClientConfig{Endpoints: []string{url}})
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if agent == "" {
		d, err := dispatch.NewDispatcher(dispatch.DispatcherConfig{Client: c, ID: instance, TTL: ttl})
		if err != nil {
			return err
		}
		return d.Run(ctx)
	}
	session, err := etcdkv.NewSession(etcdkv.SessionConfig{Client: c, TTL: ttl})
	if err != nil {
		return err
	}
	file, err := os.OpenFile(runs, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	w, err := dispatch.NewWorker(dispatch.WorkerConfig{
		Client: c, AgentID: agent, Instance: instance, Plugins: &plugins{runs: file},
		Lease: func() clientv3.LeaseID { return clientv3.LeaseID(session.Lease()) },
	})
	if err != nil {
		return err
	}
	all, ctx := errgroup.WithContext(ctx)
	all.Go(func() error { return session.Run(ctx) })
	all.Go(func() error { return w.Run(ctx) })
	return all.Wait()
}

// plugins is one plugin, in this process.
type plugins struct{ runs *os.File }

// List implements dispatch.Plugins.
func (*plugins) List() []plugin.Status {
	return []plugin.Status{{Name: "bench", Version: "1.0.0", State: plugin.Running, Capabilities: []string{"bench"}}}
}

// Execute implements dispatch.Plugins: it takes as long as the payload says.
func (p *plugins) Execute(ctx context.Context, _ string, task plugin.Task, deliver func(plugin.Result) error) error {
	if _, err := fmt.Fprintln(p.runs, task.ID); err != nil {
		return err
	}
	work, err := time.ParseDuration(string(task.Payload))
	if err != nil {
		return err
	}
	if err := sleep.For(ctx, work); err != nil {
		return err
	}
	return deliver(plugin.Result{Payload: []byte(task.ID), Cursor: "end"})
}
