package plugin

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"go.yaml.in/yaml/v3"

	"github.com/perennial-go/perennial/internal/atomicfile"
)

// ExecutableName is the file name of the executable of the plugin name.
func ExecutableName(name string) string {
	if runtime.GOOS == "windows" {
		return name + ".exe"
	}
	return name
}

// Install puts a plugin into dir, or replaces the one of that name there: the
// executable first, then its manifest with Schema, Protocol (if empty) and
// SHA256 filled in, each by an atomic rename. A host that scans dir sees the
// old pair or the new, or refuses the mixture until the second rename. It
// must not run twice at once for one name. It returns the manifest as written.
func Install(dir, executable string, m Manifest) (Manifest, error) {
	return InstallSigned(dir, executable, m, nil)
}

// InstallSigned is Install with a signature of the manifest, which sign makes of
// its bytes, in NAME.plugin.yaml.minisig, written last. nil leaves the plugin
// unsigned: a signature that is there is removed.
func InstallSigned(dir, executable string, m Manifest, sign func(manifest []byte) (signature []byte, err error)) (Manifest, error) {
	if m.Schema == 0 {
		m.Schema = manifestSchema
	}
	if len(m.Protocol) == 0 {
		m.Protocol = []int{1}
	}
	if err := m.validate(false); err != nil {
		return m, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	src, err := os.Open(executable)
	if err != nil {
		return m, err
	}
	defer func() { _ = src.Close() }()
	tmp, sum, err := copyHashed(src, dir, 0o755, true)
	if err != nil {
		return m, err
	}
	m.SHA256 = sum
	data, err := yaml.Marshal(m)
	if err == nil {
		_, err = ParseManifest(data)
	}
	var signature []byte
	if err == nil && sign != nil {
		signature, err = sign(data)
	}
	if err == nil {
		err = atomicfile.Rename(tmp, filepath.Join(dir, ExecutableName(m.Name)))
	}
	if err != nil {
		_ = os.Remove(tmp)
		return m, err
	}
	// The signature comes last: beside the manifest by which a plugin runs, one
	// that does not match would have it stopped.
	path := filepath.Join(dir, m.Name+ManifestSuffix)
	if err := atomicfile.Write(path, data, 0o644); err != nil {
		return m, err
	}
	if sign != nil {
		return m, atomicfile.Write(path+SignatureSuffix, signature, 0o644)
	}
	if err := os.Remove(path + SignatureSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return m, err
	}
	return m, atomicfile.SyncDir(dir)
}

// readBounded reads a regular file of at most limit bytes.
func readBounded(path string, limit int64) ([]byte, error) {
	f, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return readAll(f, path, limit)
}

// readAll returns what f, which is called name, holds: limit bytes at most.
func readAll(f io.Reader, name string, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s: want at most %d bytes, found more", name, limit)
	}
	return data, nil
}

// openRegular opens a file that is one: opening a FIFO would block for ever.
func openRegular(path string) (*os.File, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: want a regular file, found %s", path, fi.Mode().Type())
	}
	return os.Open(path)
}
