package upgrade_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/perennial-go/perennial/upgrade"
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
	if _, err := upgrade.GenerateKey(filepath.Join(dir, "keys")); err != nil {
		log.Fatal(err)
	}
	key, err := upgrade.LoadPrivateKey(filepath.Join(dir, "keys", upgrade.PrivateKeyFile))
	if err != nil {
		log.Fatal(err)
	}
	repository, err := upgrade.NewRepository(upgrade.RepositoryConfig{Dir: filepath.Join(dir, "repo"), Key: key})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := repository.Publish(ctx, upgrade.Release{
		Name:     "agentd",
		Version:  "1.1.0",
		Requires: upgrade.Requires{Upgrade: ">=1.0.0"},
		Binaries: []upgrade.Binary{{Path: binary}},
	}); err != nil {
		log.Fatal(err)
	}

	// The host.
	trust, err := upgrade.LoadTrust(filepath.Join(dir, "keys", upgrade.PublicKeyFile))
	if err != nil {
		log.Fatal(err)
	}
	source, err := upgrade.NewSource(filepath.Join(dir, "repo")) // or https://…
	if err != nil {
		log.Fatal(err)
	}
	client, err := upgrade.NewClient(upgrade.ClientConfig{
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
	if err := client.Fetch(ctx, manifest, filepath.Join(dir, "fetched"), nil); err != nil {
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
		if _, err := upgrade.ParseVersion(s); err != nil {
			fmt.Println(err, errors.Is(err, upgrade.ErrFloatingTag))
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
	running, err := upgrade.ParseVersion("1.2.0")
	if err != nil {
		log.Fatal(err)
	}
	for _, version := range []string{"1.3.0", "1.1.0", "2.0.0"} {
		manifest := &upgrade.Manifest{Name: "agentd", Version: version}
		err := upgrade.CheckPolicy(upgrade.Policy{}, running, manifest, upgrade.PolicyContext{})
		fmt.Println(version, err)
	}
	// Output:
	// 1.3.0 <nil>
	// 1.1.0 downgrade refused: 1.2.0 runs, 1.1.0 is older: publish what you want to go back to under a higher version
	// 2.0.0 outside the upgrade policy: 1.2.0 runs, 2.0.0 has another major version: allow major versions in the policy, or ask for one of 1.x
}
