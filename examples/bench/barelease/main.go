// Command barelease has with etcd what oneagent has, by clientv3 alone.
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
)

const ttl = 30 * time.Second

func main() {
	url := flag.String("etcd", "", "`URL` of an etcd")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *url, "/bench/barelease")
	stop()
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "barelease:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, url, key string) error {
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{url}, DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	lease, err := c.Grant(ctx, int64(ttl/time.Second))
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
