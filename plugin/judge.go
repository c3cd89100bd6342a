package plugin

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// SignatureSuffix follows the name of a manifest file in that of its signature.
const SignatureSuffix = ".minisig"

// maxSignatureBytes bounds a signature with its comments.
const maxSignatureBytes = 16 << 10

// judge checks the files of one plugin and puts its executable into the depot.
// The order is that of trust: nothing of the manifest is read before its
// signature, nothing of the executable before the manifest. With an error, no
// more of the bundle can be relied on than the manifest's text.
func (m *Manager) judge(d *directory, name string) (*bundle, error) {
	file := name + ManifestSuffix
	text, err := d.read(file, maxManifestBytes)
	b := &bundle{text: text, source: filepath.Join(d.path, ExecutableName(name))}
	if errors.Is(err, fs.ErrNotExist) {
		return b, fmt.Errorf("there is no %s beside the executable; put one there, or remove the executable", file)
	}
	if err != nil {
		return b, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	if err := m.authenticate(d, file, b); err != nil {
		return b, err
	}
	if err := b.parse(); err != nil {
		return b, fmt.Errorf("%s: %w", file, err)
	}
	if b.manifest.Name != name {
		return b, fmt.Errorf("%s: %w: name: want %q, as the file is called, found %q; rename one of them", file, ErrManifest, name, b.manifest.Name)
	}
	if err := b.manifest.fits(m.cfg.HostVersion); err != nil {
		return b, err
	}
	if err := m.launcher.admit(d, b); err != nil {
		return b, err
	}
	return b, nil
}

// authenticate checks the signature of a manifest whose text is read.
func (m *Manager) authenticate(d *directory, file string, b *bundle) error {
	if m.cfg.Verify == nil {
		return nil
	}
	signature, err := d.read(file+SignatureSuffix, maxSignatureBytes)
	switch {
	case errors.Is(err, fs.ErrNotExist) && m.cfg.RequireSigned:
		return fmt.Errorf("%w: there is no %s, and this host wants signed plugins; sign the manifest with minisign -H and a release key", ErrUntrusted, file+SignatureSuffix)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("%w: %w", ErrUntrusted, err)
	}
	b.signature = signature
	if b.signed, err = m.cfg.Verify(b.text, signature); err != nil {
		return &signatureError{file, err}
	}
	return nil
}

// signatureError is a verdict that may change while the files do not.
type signatureError struct {
	file string
	err  error
}

func (e *signatureError) Error() string { return e.file + ": " + e.err.Error() }

func (e *signatureError) Unwrap() error { return e.err }

// executable opens the copy of b's executable. One that was damaged since is
// made anew from the original, if that is still the same.
func (l *launcher) executable(b *bundle) (*os.File, error) {
	f, err := l.depot.open(b.manifest.SHA256)
	if err == nil {
		return f, nil
	}
	d, derr := openDirectory(l.cfg.Dir)
	if derr != nil {
		return nil, errors.Join(err, derr)
	}
	defer func() { _ = d.close() }()
	if aerr := l.admit(d, b); aerr != nil {
		return nil, errors.Join(err, aerr)
	}
	return l.depot.open(b.manifest.SHA256)
}

// admit makes sure that b's executable in the directory may be run, and of a
// copy of it.
func (l *launcher) admit(d *directory, b *bundle) error {
	name := ExecutableName(b.manifest.Name)
	f, fi, err := d.open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: wanted the executable of %s %s there, found nothing; copy it beside its manifest", b.source, b.manifest.Name, b.manifest.Version)
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if runtime.GOOS != "windows" && fi.Mode().Perm()&0o111 == 0 {
		return fmt.Errorf("%s: it is not executable (mode %s); chmod +x it", name, fi.Mode())
	}
	if fi.Size() > maxExecutableBytes {
		return fmt.Errorf("%s: want an executable of at most %d bytes, found %d", name, int64(maxExecutableBytes), fi.Size())
	}
	return l.depot.admit(f, b.source, b.manifest.SHA256)
}
