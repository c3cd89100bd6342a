// Command oneagent has with etcd what an agent has, and nothing else: a
// client, a lease and a watch. With --bare it has them of clientv3 alone.
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
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/perennial-go/perennial/internal/etcdkv"
)

func main() {
	bare := flag.Bool("bare", false, "use clientv3 alone")
	url := flag.String("etcd", "", "`URL` of an etcd")
	id := flag.String("id", "agent", "last part of the key")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	run := runOurs
	if *bare {
		run = runBare
	}
	if err := run(ctx, *url, "/bench/oneagent/"+*id); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "oneagent:", err)
		os.Exit(1)
	}
}

func runOurs(ctx context.Context, url, key string) error {
	c, err := etcdkv.Dial(etcdkv.ClientConfig{Endpoints: []string{url}})
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	session, err := etcdkv.NewSession(etcdkv.SessionConfig{
		Client: c,
		OnLease: func(ctx context.Context, lease int64) error {
			_, err := c.Put(ctx, key, "here", clientv3.WithLease(clientv3.LeaseID(lease)))
			if err == nil {
				fmt.Println("holds", key)
			}
			return err
		},
	})
	if err != nil {
		return err
	}
	watch, err := etcdkv.NewWatch(etcdkv.WatchConfig{
		Client: c, Keys: []string{key + "/config", key + "/order", "/bench/oneagent/config"},
		OnChange: func(etcdkv.View) {},
	})
	if err != nil {
		return err
	}
	all, ctx := errgroup.WithContext(ctx)
	all.Go(func() error { return session.Run(ctx) })
	all.Go(func() error { return watch.Run(ctx) })
	return all.Wait()
}

func runBare(ctx context.Context, url, key string) error {
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{url}, DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	lease, err := c.Grant(ctx, int64(etcdkv.DefaultTTL/time.Second))
	if err != nil {
		return err
	}
	alive, err := c.KeepAlive(ctx, lease.ID)
	if err != nil {
		return err
	}
	events := c.Watch(ctx, key+"/config")
	if _, err := c.Put(ctx, key, "here", clientv3.WithLease(lease.ID)); err != nil {
		return err
	}
	fmt.Println("holds", key)
	for {
		select {
		case _, ok := <-alive:
			if !ok {
				return errors.New("the lease is no longer kept")
			}
		case <-events:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
