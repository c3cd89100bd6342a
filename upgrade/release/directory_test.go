package release

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestURLIsNotTakenForAPathThatIsWrittenTo(t *testing.T) {
	t.Chdir(t.TempDir())
	key := fixtureKey(t, 1)
	for _, location := range []string{"https://example.com/repo", "oci://example.com/repo", "file://elsewhere/repo", "file://"} {
		const says = "want a path or file:///absolute/path"
		if _, err := NewRepository(RepositoryConfig{Dir: location, Key: key}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("NewRepository %s: %v", location, err)
		}
		if _, err := NewDir(location); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("NewDir %s: %v", location, err)
		}
		if _, err := InstallKeyring(t.Context(), KeyringConfig{Dir: location}, nil); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("InstallKeyring %s: %v", location, err)
		}
	}
	if left, err := filepath.Glob("*"); err != nil || len(left) > 0 {
		t.Errorf("%v, %v: something was written", left, err)
	}
	dir := t.TempDir()
	if src, err := NewDir("file://" + dir); err != nil || src.String() != dir {
		t.Errorf("file URL: %v, %v, want %s", src, err, dir)
	}
}
