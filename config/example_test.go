package config_test

import (
	"context"
	"encoding/json"
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

// Part of a program follows part of the configuration. An error leaves
// everybody on the former one.
func ExampleSub() {
	store, err := config.New(config.Config[Settings]{})
	if err != nil {
		fmt.Println(err)
		return
	}
	stop, err := config.Sub(store, "uploader",
		func(s *Settings) Upload { return s.Upload },
		func(ctx context.Context, old, new Upload) error {
			// Connect to new.URL before ctx ends; only then leave old.URL.
			return nil
		})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer stop()
	fmt.Println(store.Status().Origin)
	// Output: default
}

// Defaults are tags; over them come files of the host, variables such as
// UPLOADER_UPLOAD_BATCH, and what etcd holds.
func ExampleConfig() {
	store, err := config.New(config.Config[Settings]{
		Files:     []string{"/etc/uploader/site.yaml", "/etc/uploader/host.yaml"},
		EnvPrefix: "UPLOADER_",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	// In tests: what documents would come to, or where they are wrong.
	s, err := store.Check([]byte("interval: 1m"), []byte("upload: {batch: 7}"))
	fmt.Println(s.Interval, s.Upload.Batch, err)
	_, err = store.Check([]byte("interval: 1m\nupload:\n  bach: 7\n"))
	fmt.Println(err)
	// Output:
	// 1m0s 7 <nil>
	// configuration document 1: line 3, column 3: unknown field upload.bach: no such setting here; check the spelling, or remove it
}

func ExampleSecret() {
	upload := Upload{URL: "https://example.com", Token: config.NewSecret("hunter2")}
	fmt.Printf("%+v\n", upload)
	out, err := json.Marshal(upload)
	fmt.Println(string(out), err)
	fmt.Println(len(upload.Token.Reveal()))
	// Output:
	// {URL:https://example.com Batch:0 Token:(secret)}
	// {"URL":"https://example.com","Batch":0,"Token":"(secret)"} <nil>
	// 7
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
