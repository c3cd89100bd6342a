package release

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"time"

	"github.com/perennial-go/perennial/internal/backoff"
	"github.com/perennial-go/perennial/internal/boundedio"
	"github.com/perennial-go/perennial/internal/ctxio"
	"github.com/perennial-go/perennial/internal/failpoint"
	"github.com/perennial-go/perennial/internal/filelock"
)

const (
	// partPrefix starts the names of files that are not complete. Each user
	// has its own: nobody goes on with what another may have written. So has
	// each start of the system: what was not synced to disk before a power
	// cut may have holes, which a killed process alone does not leave.
	partPrefix = ".part-"
	// partPatience is how long another process may add nothing to a file
	// before this one does not wait for it any more.
	partPatience = 3 * time.Second
	partPoll     = 50 * time.Millisecond
	partMode     = 0o600
)

// part is an entry on its way into the cache. Whoever writes it holds its
// lock; a process that was killed has left it for the next one to go on with.
type part struct {
	cache  *Cache
	root   *os.Root
	digest string
	name   string
	lock   *os.File // held open for reading: nothing keeps an executable open for writing
	w      *os.File
	sum    hash.Hash
	size   int64
}

func partPath(digest string) string {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil || len(boot) < 8 {
		boot = []byte("00000000") // not Linux
	}
	return path.Join(contentDir, fmt.Sprintf("%s%d-%.8s-%s", partPrefix, os.Geteuid(), boot, digest))
}

var (
	errPresent = errors.New("another process has put it in")
	errBusy    = errors.New("another process has it and makes no progress")
)

// beginPart takes up the part of digest, waiting while another process makes
// progress with it. errPresent means that it did so to the end.
func (c *Cache) beginPart(ctx context.Context, digest string) (p *part, err error) {
	if err := c.makeDirs(contentDir); err != nil {
		return nil, err
	}
	root, err := c.root()
	if err != nil {
		return nil, err
	}
	p = &part{cache: c, root: root, digest: digest, name: partPath(digest), sum: sha256.New()}
	if p.lock, err = p.acquire(ctx); err == nil {
		err = p.takeUp(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

// acquire locks the part, or says why not.
func (p *part) acquire(ctx context.Context) (*os.File, error) {
	grown, size := time.Now(), int64(-1)
	for {
		f, err := p.try()
		if !errors.Is(err, errBusy) {
			return f, err
		}
		if _, err := p.root.Lstat(entryPath(p.digest)); err == nil {
			return nil, errPresent
		}
		if info, err := p.root.Lstat(p.name); err == nil && info.Size() != size {
			grown, size = time.Now(), info.Size()
		}
		if time.Since(grown) > partPatience {
			return nil, err
		}
		if err := backoff.Sleep(ctx, partPoll); err != nil {
			return nil, err
		}
	}
}

// try opens and locks the part, which is errBusy if another has it, or has
// just made an entry of it.
func (p *part) try() (*os.File, error) {
	// What another user may have put there, which writing to the part would
	// change, loses the name that is in the way and nothing else.
	if info, err := p.root.Lstat(p.name); err == nil && !exclusive(info) {
		if err := p.root.Remove(p.name); err != nil {
			return nil, err
		}
	}
	f, err := p.root.OpenFile(p.name, os.O_RDONLY|os.O_CREATE|openNoWait, partMode)
	if err != nil {
		return nil, err
	}
	err = filelock.Lock(f)
	switch {
	case filelock.Held(err):
		err = errBusy
	case err == nil:
		err = p.same(f)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// same checks that f is still what the part's name stands for, and that
// writing to it changes nothing else.
func (p *part) same(f *os.File) error {
	named, err1 := p.root.Lstat(p.name)
	info, err2 := f.Stat()
	if err := errors.Join(err1, err2); err != nil || !os.SameFile(named, info) || !exclusive(info) {
		return fmt.Errorf("%s: %w", p.name, errBusy)
	}
	return nil
}

// takeUp reads what is there already.
func (p *part) takeUp(ctx context.Context) (err error) {
	// Who was killed just before the commit has left it unwritable.
	if err := p.lock.Chmod(partMode); err != nil {
		return err
	}
	if p.w, err = p.root.OpenFile(p.name, os.O_WRONLY|os.O_APPEND|openNoWait, 0); err != nil {
		return err
	}
	if err := p.same(p.w); err != nil {
		return err
	}
	p.size, err = io.Copy(p.sum, ctxio.Reader(ctx, io.LimitReader(p.lock, p.cache.cfg.MaxBytes+1)))
	if err == nil && p.size > p.cache.cfg.MaxBytes {
		err = errors.Join(p.w.Truncate(0), fmt.Errorf("%w: the entry has more than the %d bytes of the cache", boundedio.ErrTooLarge, p.cache.cfg.MaxBytes))
	}
	return err
}

func (p *part) write(data []byte) error {
	if p.size+int64(len(data)) > p.cache.cfg.MaxBytes {
		return fmt.Errorf("%w: the entry has more than the %d bytes of the cache", boundedio.ErrTooLarge, p.cache.cfg.MaxBytes)
	}
	if err := failpoint.Hit("cache.part"); err != nil {
		return err
	}
	n, err := p.w.Write(data)
	p.sum.Write(data[:n])
	p.size += int64(n)
	return err
}

func (p *part) complete() bool { return hex.EncodeToString(p.sum.Sum(nil)) == p.digest }

// commit makes an entry of a complete part. The mode comes before the name:
// an entry is never writable.
func (p *part) commit() error {
	err := p.w.Sync()
	if err == nil {
		err = p.w.Chmod(entryMode)
	}
	err = errors.Join(err, p.w.Close())
	p.w = nil
	if err == nil {
		err = failpoint.Hit("cache.commit")
	}
	if err == nil {
		err = p.root.Rename(p.name, entryPath(p.digest))
	}
	if err == nil {
		err = p.cache.syncDir(contentDir)
	}
	if err != nil {
		return errors.Join(err, p.discard())
	}
	if info, err := p.lock.Stat(); err == nil && guarded(info) {
		p.cache.known.Store(p.digest, info)
	}
	return p.cache.evict(p.root, p.digest)
}

// discard deletes what can be of no use.
func (p *part) discard() error {
	err := p.root.Remove(p.name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// close lets go of the part and leaves what is there for the next one.
func (p *part) close() (err error) {
	for _, f := range []*os.File{p.w, p.lock} {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	return errors.Join(err, p.root.Close())
}
