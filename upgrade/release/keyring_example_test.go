package release_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/perennial-go/perennial/upgrade/release"
)

// The roots' keys stay where no network reaches: one machine makes the
// keyring, each root signs it on its own, and whoever has the signatures
// installs it into the repository.
func ExampleKeyring() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()

	trust := release.Trust{Threshold: 2} // what the agent's author compiles in
	for _, name := range []string{"root-1", "root-2", "root-3"} {
		root, err := release.CreateKey(release.KeyConfig{Dir: dir, Name: name})
		if err != nil {
			log.Fatal(err)
		}
		trust.Roots = append(trust.Roots, root)
	}
	publisher, err := release.CreateKey(release.KeyConfig{Dir: dir})
	if err != nil {
		log.Fatal(err)
	}

	keyring, err := release.NewKeyring("agentd")
	if err != nil {
		log.Fatal(err)
	}
	if err := keyring.Add(release.KeyringKey{Key: publisher.String(), Comment: "build machine"}); err != nil {
		log.Fatal(err)
	}
	document, err := keyring.Issue(time.Now(), 365*24*time.Hour)
	if err != nil {
		log.Fatal(err)
	}

	repository := release.KeyringConfig{Dir: filepath.Join(dir, "repo"), Trust: trust}
	var signatures [][]byte
	for _, name := range []string{"root-1", "root-3"} {
		key, err := release.LoadPrivateKey(filepath.Join(dir, name+".key"))
		if err != nil {
			log.Fatal(err)
		}
		signature, err := release.SignKeyring(document, key)
		if err != nil {
			log.Fatal(err)
		}
		signatures = append(signatures, signature)
		_, err = release.InstallKeyring(context.Background(), repository, document, signatures...)
		fmt.Printf("%d of %d signatures, installed: %t\n", len(signatures), trust.Needed(), err == nil)
	}
	// Output:
	// 1 of 2 signatures, installed: false
	// 2 of 2 signatures, installed: true
}
