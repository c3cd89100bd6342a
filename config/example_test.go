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

// What an agent's author writes: a type, its defaults and what makes sense.
type Settings struct {
	Interval time.Duration `default:"10s" doc:"Pause between two uploads."`
	Upload   Upload
}

type Upload struct {
	URL   string
	Batch int           `default:"100"`
	Token config.Secret `doc:"Shown to the server at URL."`
}

// Validate is found by itself, on the type and on those in it.
func (u *Upload) Validate() error {
	if u.URL != "" && u.Token.Reveal() == "" {
		return errors.New("url is set without a token: set both or none")
	}
	return nil
}

func ExampleStore() {
	store, err := config.New(config.Config[Settings]{})
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
