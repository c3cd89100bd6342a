package release_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/perennial-go/perennial/upgrade/release"
)

// Publishing a release and fetching it on a host, with everything between
// the two untrusted.
func Example_release() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary := filepath.Join(dir, "agentd")
	if err := os.WriteFile(binary, []byte("the program"), 0o755); err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()

	// The publisher.
	if _, err := release.GenerateKey(filepath.Join(dir, "keys")); err != nil {
		log.Fatal(err)
	}
	key, err := release.LoadPrivateKey(filepath.Join(dir, "keys", release.PrivateKeyFile))
	if err != nil {
		log.Fatal(err)
	}
	repository, err := release.NewRepository(release.RepositoryConfig{Dir: filepath.Join(dir, "repo"), Key: key})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := repository.Publish(ctx, release.Release{
		Name:     "agentd",
		Version:  "1.1.0",
		Requires: release.Requires{Upgrade: ">=1.0.0"},
		Binaries: []release.Binary{{Path: binary}},
	}); err != nil {
		log.Fatal(err)
	}

	// The host.
	trust, err := release.LoadTrust(filepath.Join(dir, "keys", release.PublicKeyFile))
	if err != nil {
		log.Fatal(err)
	}
	source, err := release.NewSource(filepath.Join(dir, "repo")) // or https://…
	if err != nil {
		log.Fatal(err)
	}
	client, err := release.NewClient(release.ClientConfig{
		Source:    source,
		Trust:     trust,
		Name:      "agentd",
		StateFile: filepath.Join(dir, "trust.json"),
	})
	if err != nil {
		log.Fatal(err)
	}
	pin, err := client.Resolve(ctx, "1.1.0")
	if err != nil {
		log.Fatal(err)
	}
	manifest, _, _, err := client.Manifest(ctx, pin)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := client.Fetch(ctx, manifest, filepath.Join(dir, "fetched"), release.FetchOptions{}); err != nil {
		log.Fatal(err)
	}
	fetched, err := os.ReadFile(filepath.Join(dir, "fetched"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s %s: %s\n", manifest.Name, manifest.Version, fetched)
	// Output: agentd 1.1.0: the program
}

func ExampleParseVersion() {
	for _, s := range []string{"1.2.0", "latest", "v1"} {
		if _, err := release.ParseVersion(s); err != nil {
			fmt.Println(err, errors.Is(err, release.ErrFloatingTag))
			continue
		}
		fmt.Println(s)
	}
	// Output:
	// 1.2.0
	// not an exact version: "latest" is a tag or branch that can move: write the version that it stands for now, such as 1.2.0 true
	// not an exact version: "v1" is a partial version, which moves with each release: write all three numbers, such as 1.2.0 true
}

func ExampleCheckPolicy() {
	running, err := release.ParseVersion("1.2.0")
	if err != nil {
		log.Fatal(err)
	}
	for _, version := range []string{"1.3.0", "1.1.0", "2.0.0"} {
		manifest := &release.Manifest{Name: "agentd", Version: version}
		err := release.CheckPolicy(release.Policy{}, running, manifest, release.PolicyContext{})
		fmt.Println(version, err)
	}
	// Output:
	// 1.3.0 <nil>
	// 1.1.0 downgrade refused: 1.2.0 runs, 1.1.0 is older: roll back to it if the host has kept it, or publish it under a higher version
	// 2.0.0 outside the upgrade policy: 1.2.0 runs, 2.0.0 has another major version: allow major versions in the policy (run --allow-major), or ask for one of 1.x
}

// A range is resolved once, by whoever asks; what they order is the pin.
func ExampleParseRange() {
	index := &release.Index{Name: "agentd", Sequence: 4, Releases: []release.IndexEntry{
		{Version: "1.2.0"}, {Version: "1.3.0", Yanked: "loses records"}, {Version: "1.4.0-rc.1"}, {Version: "2.0.0"},
	}}
	for _, text := range []string{"^1.2.0", "~1.3.0", "^1.4.0-rc.1", "1.x"} {
		r, err := release.ParseRange(text)
		if err != nil {
			fmt.Println(err)
			continue
		}
		entry, err := r.Select(index, false)
		fmt.Println(text, entry.Version, errors.Is(err, release.ErrYanked))
	}
	// Output:
	// ^1.2.0 1.2.0 false
	// ~1.3.0  true
	// ^1.4.0-rc.1 1.4.0-rc.1 false
	// not an exact version: "1.x" is a partial version, which moves with each release: write all three numbers, such as 1.2.0
}

// Which modules changed between two builds, and where a plugin disagrees with
// its host on the protocol that they share.
func ExampleCompare() {
	host := &release.Build{Go: "go1.26.8", Modules: []release.Module{{Path: "google.golang.org/grpc", Version: "v1.70.0"}, {Path: "example.com/x", Version: "v1.0.0"}}}
	plugin := &release.Build{Go: "go1.26.8", Modules: []release.Module{{Path: "google.golang.org/grpc", Version: "v1.64.0"}}}
	d := release.Compare(host, plugin)
	fmt.Println(d.Removed[0].Path, d.Changed[0].Path, d.Changed[0].From, d.Changed[0].To)
	for _, c := range release.Conflicts(host, plugin, nil) {
		fmt.Println(c.Path, c.Host, c.Plugin, c.Incompatible)
	}
	// Output:
	// example.com/x google.golang.org/grpc v1.70.0 v1.64.0
	// google.golang.org/grpc v1.70.0 v1.64.0 false
}
