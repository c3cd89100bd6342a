package config_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/config"
)

// What an agent's author writes: a type, its default and what makes sense.
type Settings struct {
	Interval time.Duration
	Upload   struct {
		URL   string
		Batch int
	}
}

func ExampleStore() {
	var def Settings
	def.Interval = 10 * time.Second
	def.Upload.Batch = 100
	store, err := config.New(config.Config[Settings]{
		Default: def,
		Validate: func(s *Settings) error {
			if s.Interval < time.Second {
				return errors.New("interval: want at least 1s")
			}
			return nil
		},
		OnChange: func(old, new config.Snapshot[Settings]) {
			fmt.Println("interval was", old.Value.Interval, "and is", new.Value.Interval)
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	// In an agent the store goes into agent.Config.Settings, which runs it:
	//
	//	err = store.Run(ctx, config.Source{Client: client, AgentID: "a1", File: "…/config.json"})

	s := store.Snapshot() // anywhere, at any time, never blocks
	fmt.Println(s.Origin, s.Value.Interval, s.Value.Upload.Batch)
	// Output: default 10s 100
}

// A successor starts on the file that its predecessor kept, at once, and
// without etcd.
func ExampleSource() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"127.0.0.1:1"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	store, err := config.New(config.Config[Settings]{LoadTimeout: time.Millisecond})
	if err != nil {
		fmt.Println(err)
		return
	}
	err = store.Run(context.Background(), config.Source{
		Client:     client,
		AgentID:    "a1",
		File:       filepath.Join(dir, "config.json"), // not there yet
		PreferFile: true,
	})
	fmt.Println(errors.Is(err, config.ErrNoConfig))
	// Output: true
}

func ExamplePut() {
	ctx := context.Background()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"http://127.0.0.1:2379"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	document := []byte("interval: 5s\nupload: [batch: 500\n")
	revision, err := config.Put(ctx, client, "/agents/", "group/web", document)
	if errors.Is(err, config.ErrInvalid) {
		fmt.Println("nothing was published")
		return
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("published at revision", revision)
	// Output: nothing was published
}
