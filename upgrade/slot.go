package upgrade

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/perennial-go/perennial/internal/atomicfile"
	"github.com/perennial-go/perennial/internal/failpoint"
)

const (
	slotsDir     = "slots"
	currentLink  = "current"
	binaryName   = "agent"
	releaseFile  = "release.json"
	completeFile = "complete"
	slotSchema   = 1
)

// Slot is a directory with one immutable release.
type Slot struct {
	Schema int `json:"schema"`
	Ref
	// Adopted is true for an executable that was not downloaded but found
	// running at a first start.
	Adopted bool      `json:"adopted,omitempty"`
	Created time.Time `json:"created"`
	// Proven is when the release passed probation or was adopted; zero if
	// it never did.
	Proven time.Time `json:"proven,omitzero"`
	// Retired is when another release took its place; zero while it is
	// current.
	Retired time.Time `json:"retired,omitzero"`
	// Keep is until when it is kept at least once it is retired, because a request
	// asked for that; zero = as long as all are.
	Keep time.Time `json:"keep,omitzero"`
	// Staged is set where ActionStage has asked for it, and it has not become
	// current since.
	Staged *Staging `json:"staged,omitempty"`
	// AllowedBy is the rule of the policy by which the release was let in, and
	// By who asked for it; both empty in an adopted slot, and in those that
	// older releases made.
	AllowedBy string `json:"allowed_by,omitempty"`
	By        string `json:"by,omitempty"`
	// Rollback is set where the release became current last by a rollback.
	Rollback *Comeback `json:"rollback,omitempty"`

	dir string
}

// Name is the slot's directory name: version and the first 12 digits of the
// executable's sha256.
func (s Slot) Name() string { return slotName(s.Ref) }

// Binary path of the slot's executable.
func (s Slot) binary() string { return filepath.Join(s.dir, binaryName) }

func slotName(r Ref) string { return r.Version + "-" + r.Binary[:12] }

// slots is the set of slots of one state directory.
type slots struct{ stateDir string }

func (s slots) root() string { return filepath.Join(s.stateDir, slotsDir) }

// open reads the slot called name. The error is fs.ErrNotExist where there
// is no such slot or it is not complete.
func (s slots) open(name string) (Slot, error) {
	dir := filepath.Join(s.root(), name)
	data, err := atomicfile.Read(filepath.Join(dir, completeFile), 1<<20)
	if err != nil {
		return Slot{}, err
	}
	var slot Slot
	if err := json.Unmarshal(data, &slot); err != nil {
		return Slot{}, fmt.Errorf("slot %s: %w", name, err)
	}
	if slot.Schema != slotSchema {
		return Slot{}, fmt.Errorf("slot %s has schema %d, this agent reads %d: a newer agent made it", name, slot.Schema, slotSchema)
	}
	if len(slot.Ref.Binary) != sha256.Size*2 || slot.Name() != name {
		return Slot{}, fmt.Errorf("slot %s is damaged: its record names %s %s", name, slot.Version, slot.Ref.Binary)
	}
	slot.dir = dir
	return slot, nil
}

// list returns the complete slots, and the names of the unfinished ones.
func (s slots) list() (complete []Slot, unfinished []string, err error) {
	entries, err := os.ReadDir(s.root())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue // nobody's slot
		}
		switch slot, err := s.open(e.Name()); {
		case err == nil:
			complete = append(complete, slot)
		case errors.Is(err, fs.ErrNotExist):
			unfinished = append(unfinished, e.Name())
		default:
			// Damaged, or a newer release's: neither chosen nor collected, and
			// no obstacle for the others.
		}
	}
	return complete, unfinished, nil
}

// current returns the slot that the boot pointer names; fs.ErrNotExist
// before the first start.
func (s slots) current() (Slot, error) {
	target, err := os.Readlink(filepath.Join(s.stateDir, currentLink))
	if err != nil {
		return Slot{}, err
	}
	slot, err := s.open(filepath.Base(target))
	if errors.Is(err, fs.ErrNotExist) {
		return Slot{}, fmt.Errorf("current names %s, which is not a complete slot: restore it or remove %s to adopt the installed executable", target, filepath.Join(s.stateDir, currentLink))
	}
	return slot, err
}

// prove marks slot as having passed probation and makes it current, the
// slot before it retired and kept for at least keep. Each step is durable before
// the next, and doing it again is harmless.
func (s slots) prove(slot Slot, now time.Time, keep time.Duration) error {
	before, err := s.current()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	replaces := before.dir != "" && before.dir != slot.dir
	if replaces && keep > 0 {
		// Before the pointer moves, for nobody who comes after a crash knows of it.
		before.Keep = now.Add(keep).UTC()
		if err := before.save(); err != nil {
			return err
		}
	}
	slot.Retired, slot.Keep, slot.Staged = time.Time{}, time.Time{}, nil
	if slot.Proven.IsZero() {
		slot.Proven = now.UTC()
	}
	if err := slot.save(); err != nil {
		return err
	}
	if err := failpoint.Hit("commit-before-current"); err != nil {
		return err
	}
	if err := s.point(slot); err != nil {
		return err
	}
	if err := failpoint.Hit("commit-after-current"); err != nil {
		return err
	}
	if replaces {
		before.Retired = now.UTC()
		// A mark that could not be made is made by the next collection; the
		// commit stands.
		_ = before.save()
	}
	return failpoint.Hit("commit-retired")
}

// revert takes a back: the release that it came from is current again, and
// the one that it led to is what it was before, either never proven or
// retained.
func (s slots) revert(a Attempt, now time.Time) error {
	if len(a.From.Binary) != sha256.Size*2 || len(a.To.Binary) != sha256.Size*2 {
		return nil // it never came as far as a slot
	}
	cur, err := s.current()
	if err != nil {
		return err
	}
	if cur.Ref.Binary != a.From.Binary {
		from, err := s.open(slotName(a.From))
		if err != nil {
			return fmt.Errorf("release %s cannot be made current again: %w", a.From.Version, err)
		}
		if a.Abandoned {
			from.Rollback = a.comeback()
		}
		// The pointer first: it can often be moved where nothing can be written.
		if err := errors.Join(s.point(from), s.prove(from, now, 0)); err != nil {
			return err
		}
	}
	to, err := s.open(slotName(a.To))
	if errors.Is(err, fs.ErrNotExist) || (err == nil && to.Proven.IsZero()) {
		return nil
	}
	if err != nil {
		return err
	}
	if to.Rollback != nil && to.Rollback.OrderID == a.OrderID {
		to.Rollback = nil // it is the one that is taken back
	}
	if a.By == ByBootGuard || !to.Proven.Before(a.Started) {
		to.Proven = time.Time{}
	} else if to.Retired.IsZero() {
		to.Retired = now.UTC()
	}
	return to.save()
}

// point moves the boot pointer.
func (s slots) point(slot Slot) error {
	return atomicfile.Symlink(filepath.Join(slotsDir, slot.Name()), filepath.Join(s.stateDir, currentLink))
}

func (s Slot) save() error {
	return writeState(filepath.Join(s.dir, completeFile), s)
}

// slot completes what can be told of a slot without its record.
func (s slots) slot(slot Slot) Slot {
	slot.Schema, slot.dir = slotSchema, filepath.Join(s.root(), slot.Name())
	return slot
}

// create makes a slot: put writes the executable to the path it is given,
// further files are written beside it, and complete comes last.
func (s slots) create(slot Slot, files map[string][]byte, put func(binary string) error) (Slot, error) {
	slot = s.slot(slot)
	slot.Created = time.Now().UTC()
	slot.AllowedBy, slot.By = phrase(slot.AllowedBy), phrase(slot.By)
	if done, err := s.open(slot.Name()); err == nil {
		return done, nil
	}
	if err := os.RemoveAll(slot.dir); err != nil {
		return Slot{}, err
	}
	if err := os.MkdirAll(slot.dir, 0o700); err != nil {
		return Slot{}, err
	}
	err := put(slot.binary())
	if err == nil {
		err = failpoint.Hit("stage-written")
	}
	for name, data := range files {
		if err == nil {
			err = atomicfile.Write(filepath.Join(slot.dir, name), data, 0o600)
		}
	}
	if err == nil {
		err = errors.Join(atomicfile.SyncDir(slot.dir), atomicfile.SyncDir(s.root()))
	}
	if err == nil {
		err = failpoint.Hit("stage-before-complete")
	}
	if err == nil {
		err = slot.save()
	}
	if err != nil {
		return Slot{}, errors.Join(err, os.RemoveAll(slot.dir))
	}
	return slot, nil
}

// stage makes a slot of a verified download by moving it there. Its bytes were
// hashed as they were written, and nothing writes to them again.
func (s slots) stage(slot Slot, manifest, signature []byte, download string) (Slot, error) {
	files := map[string][]byte{releaseFile: manifest, releaseFile + ".minisig": signature}
	return s.create(slot, files, func(binary string) error {
		if err := makeExecutable(download); err != nil {
			return err
		}
		cacheInSmallPieces(download)
		if err := os.Rename(download, binary); err != nil {
			return err
		}
		return errors.Join(atomicfile.SyncDir(filepath.Dir(binary)), atomicfile.SyncDir(filepath.Dir(download)), needs(binary))
	})
}

// relabel puts the signed manifest of an executable into the slot that has it
// under another one. It stays what it was: retained, adopted, proven.
func (s slots) relabel(slot Slot, ref Ref, manifest, signature []byte) (Slot, error) {
	for name, data := range map[string][]byte{releaseFile: manifest, releaseFile + ".minisig": signature} {
		if err := atomicfile.Write(filepath.Join(slot.dir, name), data, 0o600); err != nil {
			return Slot{}, err
		}
	}
	slot.Ref, slot.Staged = ref, nil
	return slot, slot.save()
}

// adopt makes a slot of the running executable. It is a copy, not a link: the
// installed file can be overwritten in place, and a slot must not change with
// it. File systems that can share the blocks do.
func (s slots) adopt(executable string, ref Ref) (Slot, error) {
	slot, err := s.create(Slot{Ref: ref, Adopted: true}, nil, func(binary string) error {
		return copyFile(executable, binary)
	})
	if err != nil {
		return Slot{}, fmt.Errorf("adopt %s: %w", executable, err)
	}
	return slot, nil
}

// slotOf returns the slot name if path is the executable of a slot of this
// state directory.
func (s slots) slotOf(path string) (string, bool) {
	root, err := filepath.EvalSymlinks(s.root())
	if err != nil {
		return "", false
	}
	rel, err := filepath.Rel(root, path)
	if err != nil || strings.HasPrefix(rel, "..") || filepath.Base(rel) != binaryName {
		return "", false
	}
	return filepath.Dir(rel), true
}

// fileDigest returns the sha256 of a file in hex.
func fileDigest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func copyFile(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = src.Close() }()
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o700)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Sync(), dst.Close())
}

// makeExecutable is for a download, whose bytes are on the disk: it is synced for
// the mode. One that is executable already is a link to a file of a cache, which
// is others' too, and which nobody may write to. Who gave it that mode may not have
// got as far as to sync it.
func makeExecutable(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o100 != 0 {
		return syncFile(path, os.O_RDONLY)
	}
	return errors.Join(os.Chmod(path, 0o700), syncFile(path, os.O_RDWR))
}

// syncFile opens path with flag: Windows syncs only what can be written to.
func syncFile(path string, flag int) error {
	f, err := os.OpenFile(path, flag, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
