package release_test

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/upgrade/release"
	"github.com/perennial-go/perennial/upgrade/upgradetest"
)

// serving returns a source for the files of a directory.
type serving func(t *testing.T, dir string) release.Source

func must[T any](t *testing.T, source T, err error) T {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return source
}

func overDir(t *testing.T, dir string) release.Source {
	t.Helper()
	source, err := release.NewDir(dir)
	return must(t, source, err)
}

func overHTTP(t *testing.T, dir string) release.Source {
	t.Helper()
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	t.Cleanup(server.Close)
	source, err := release.NewHTTP(release.HTTPConfig{URL: strings.Replace(server.URL, "http://", "http://joe:"+upgradetest.Password+"@", 1)})
	return must(t, source, err)
}

// cached puts a cache in front.
func cached(serve serving, pull release.PullPolicy) serving {
	return func(t *testing.T, dir string) release.Source {
		t.Helper()
		cache, err := release.NewCache(release.CacheConfig{Dir: filepath.Join(t.TempDir(), "cache"), Source: serve(t, dir), Pull: pull})
		return must(t, cache, err)
	}
}

func sources() map[string]serving {
	return map[string]serving{
		"directory":                        overDir,
		"HTTP":                             overHTTP,
		"nginx":                            overNginx,
		"cache of a directory":             cached(overDir, release.PullAlways),
		"cache of HTTP":                    cached(overHTTP, release.PullAlways),
		"cache of HTTP, IfNotPresent":      cached(overHTTP, release.PullIfNotPresent),
		"cache of a directory, of another": cached(cached(overDir, release.PullAlways), release.PullAlways),
	}
}

func TestSourcesKeepTheContract(t *testing.T) {
	for name, serve := range sources() {
		t.Run(name, func(t *testing.T) {
			upgradetest.TestSource(t, func(t *testing.T, files map[string][]byte) release.Source {
				t.Helper()
				dir := t.TempDir()
				upgradetest.WriteFiles(t, dir, files)
				return serve(t, dir)
			})
		})
	}
}

func TestSourcesFollowTheirPublisher(t *testing.T) {
	for name, serve := range sources() {
		t.Run(name, func(t *testing.T) {
			upgradetest.TestSourceFollows(t, func(t *testing.T, files map[string][]byte) (release.Source, func(map[string][]byte)) {
				t.Helper()
				dir := t.TempDir()
				upgradetest.WriteFiles(t, dir, files)
				return serve(t, dir), func(files map[string][]byte) { upgradetest.WriteFiles(t, dir, files) }
			})
		})
	}
}
