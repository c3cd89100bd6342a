package release

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/perennial-go/perennial/internal/atomicfile"
)

// linker is a source that may have a file on this host already, such as a
// Cache. It is trusted with the file no more than with any other.
type linker interface {
	LinkTo(name, dst string) error
}

// link puts the binary in place without a copy, if the source has it where
// it can be linked to. Otherwise done is false, and it has to be read.
func (d *download) link(ctx context.Context, dst string) (done bool, err error) {
	l, ok := d.source.(linker)
	if !ok {
		return false, nil
	}
	// Not the name of a download, which is written to: a link must not be.
	linked := temporaryName(dst)
	if l.LinkTo(blobPath(d.platform.SHA256), linked) != nil {
		return false, nil //nolint:nilerr // reading tells what is wrong
	}
	d.progress(0, d.platform.Size)
	same, err := d.isBinary(ctx, linked)
	if err != nil || !same {
		return false, errors.Join(err, os.Remove(linked))
	}
	if err := atomicfile.Rename(linked, dst); err != nil {
		return false, errors.Join(err, os.Remove(linked))
	}
	d.progress(d.platform.Size, d.platform.Size)
	if err := os.Remove(d.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return true, err
	}
	return true, nil
}

// isBinary checks size and digest of a file that only this user and root can
// change.
func (d *download) isBinary(ctx context.Context, name string) (same bool, err error) {
	f, err := os.Open(name)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	sum := sha256.New()
	n, err := io.Copy(sum, &contextReader{ctx: ctx, r: io.LimitReader(f, d.platform.Size+1)})
	return n == d.platform.Size && hex.EncodeToString(sum.Sum(nil)) == d.platform.SHA256, err
}
