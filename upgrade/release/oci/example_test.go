package oci_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/perennial-go/perennial/upgrade"
	"github.com/perennial-go/perennial/upgrade/release"
	"github.com/perennial-go/perennial/upgrade/release/cosign"
	"github.com/perennial-go/perennial/upgrade/release/oci"
)

// A publisher copies its repository directory into an image layout, and a
// host takes the release from there. For a registry the location is
// oci://registry.example.com/agentd.
func ExamplePush() {
	dir, err := os.MkdirTemp("", "oci")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := publish(dir); err != nil {
		panic(err)
	}
	location := "oci-layout:" + filepath.Join(dir, "layout")
	pushed, err := oci.Push(context.Background(), oci.PushConfig{Dir: filepath.Join(dir, "repo"), Target: oci.Config{Location: location}})
	if err != nil {
		panic(err)
	}
	for _, r := range pushed.Releases {
		fmt.Println(r.Version, "is tagged", r.Tag)
	}

	source, err := oci.NewSource(location)
	if err != nil {
		panic(err)
	}
	trust, err := release.LoadTrust(filepath.Join(dir, release.PublicKeyFile))
	if err != nil {
		panic(err)
	}
	client, err := release.NewClient(release.ClientConfig{Source: source, Trust: trust, Name: "agentd"})
	if err != nil {
		panic(err)
	}
	pin, err := client.Resolve(context.Background(), "1.0.0")
	fmt.Println(pin.Version, err)
	// Output:
	// 1.0.0 is tagged 1.0.0
	// 1.0.0 <nil>
}

func publish(dir string) error {
	if _, err := release.GenerateKey(dir); err != nil {
		return err
	}
	key, err := release.LoadPrivateKey(filepath.Join(dir, release.PrivateKeyFile))
	if err != nil {
		return err
	}
	repo, err := release.NewRepository(release.RepositoryConfig{PlainOnly: true, Dir: filepath.Join(dir, "repo"), Key: key})
	if err != nil {
		return err
	}
	binary := filepath.Join(dir, "agentd")
	if err := os.WriteFile(binary, []byte("a binary"), 0o600); err != nil {
		return err
	}
	_, err = repo.Publish(context.Background(), release.Release{Name: "agentd", Version: "1.0.0", Binaries: []release.Binary{{Path: binary}}})
	return err
}

// An agent that takes only what a second party has signed with cosign.
func ExampleRequireCosign() {
	source, err := oci.New(oci.Config{Location: "oci://registry.example.com/agentd"})
	if err != nil {
		slog.Error("repository", "error", err)
		return
	}
	key, err := cosign.LoadPublicKey("/etc/agentd/cosign.pub")
	if err != nil {
		slog.Error("key", "error", err)
		return
	}
	required, err := oci.RequireCosign(oci.CosignConfig{Source: source, Key: key})
	if err != nil {
		slog.Error("requirement", "error", err)
		return
	}
	_ = upgrade.Config{Source: source, Requirements: []release.Requirement{required}}
}
