// Command testetcd is the etcd process that the tests start: it prints its
// address on standard output, serves until its standard input closes (so that
// it never outlives the test that started it), and keeps its data. A member of
// a cluster prints the address for its peers first. Arguments after the
// command's own flags, and "--", are etcd's flags.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/perennial-go/perennial/examples/internal/etcdserver"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "testetcd:", err)
		os.Exit(1)
	}
}

func run() error {
	data := flag.String("data", "", "data `directory`")
	listen := flag.String("listen", "127.0.0.1:0", "`address` for clients")
	peer := flag.String("peer", "", "`URL` by which the cluster knows this member; none for a single node")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer cancel()
		_, _ = io.Copy(io.Discard, os.Stdin)
	}()

	cfg := etcdserver.Config{
		Dir:    *data,
		Listen: *listen,
		Fast:   true,
		Flags:  flag.Args(),
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}
	if *peer != "" {
		cfg.Peer = &etcdserver.Peer{
			Listen:    "127.0.0.1:0",
			Advertise: *peer,
			Listening: func(address string) { fmt.Println(address) },
		}
	}
	server, err := etcdserver.Start(ctx, cfg)
	if err != nil {
		return err
	}
	defer server.Close()
	fmt.Println(server.URL())
	return server.Wait(ctx)
}
