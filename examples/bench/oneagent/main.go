// Command oneagent has with etcd what an agent has, and nothing else: a
// client, a lease and a watch.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/perennial-go/perennial/internal/etcdkv"
)

func main() {
	url := flag.String("etcd", "", "`URL` of an etcd")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *url, "/bench/oneagent")
	stop()
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "oneagent:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, url, key string) error {
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
