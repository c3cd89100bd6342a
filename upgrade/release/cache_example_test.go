package release_test

import (
	"fmt"

	"github.com/perennial-go/perennial/upgrade/release"
)

// Agents of one host share what they read of a repository that wants a token
// and has a certificate of the company's own authority.
func ExampleNewCache() {
	source, err := release.OpenSource(release.SourceConfig{
		Location: "releases", // or https://releases.example.com/agentd, with:
		// HTTP: release.HTTPConfig{CAFile: "/etc/agentd/ca.pem", AuthFile: "/etc/agentd/token"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	cache, err := release.NewCache(release.CacheConfig{
		Dir: "/var/cache/agentd", Source: source, Pull: release.PullIfNotPresent,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = release.ClientConfig{Source: cache, Name: "agentd"} // and Trust
	fmt.Println("IfNotPresent asks the repository only for what is not there")
	// Output: IfNotPresent asks the repository only for what is not there
}
