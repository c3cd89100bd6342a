// Package reexec makes many programs of one test binary, so that tests work
// with real executables and real processes without compiling any.
//
// A copy of the binary carries a payload at its end: each copy is another
// file with another digest, and at start it can tell what it is meant to be.
package reexec

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
)

// mark precedes the payload's length at the very end of a copy.
const mark = "perennial-reexec-payload"

// maxPayload bounds a payload, in bytes.
const maxPayload = 64 << 10

// Copy writes the running executable with payload, as JSON, to path.
func Copy(path string, payload any) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	tail, err := json.Marshal(payload)
	if err != nil {
		return err
	}
	if len(tail) > maxPayload {
		return fmt.Errorf("payload of %d bytes, at most %d", len(tail), maxPayload)
	}
	length := uint32(len(tail)) //nolint:gosec // bounded above
	tail = binary.BigEndian.AppendUint32(append(tail, mark...), length)
	exe, err := os.Open(self)
	if err != nil {
		return err
	}
	defer func() { _ = exe.Close() }()
	// A child that another goroutine forks while the file is open for writing
	// keeps it open until its exec, and for so long the copy cannot be executed
	// (golang/go#22315). Nothing forks while the lock is held.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return write(path, exe, tail)
}

// write makes an executable of what exe holds and tail. The system copies:
// what passes through this process costs the race detector time.
func write(path string, exe *os.File, tail []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o700) //nolint:gosec // it is to be executed
	if err != nil {
		return err
	}
	_, err = io.Copy(f, exe)
	if err == nil {
		_, err = f.Write(tail)
	}
	return errors.Join(err, f.Close())
}

// ErrNoPayload is what Payload returns in an executable that is no copy.
var ErrNoPayload = errors.New("this executable carries no payload")

// Payload decodes the payload of the running executable.
func Payload(into any) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	f, err := os.Open(self)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	size := min(end, maxPayload+int64(len(mark))+4)
	tail := make([]byte, size)
	if _, err := f.ReadAt(tail, end-size); err != nil {
		return err
	}
	rest, ok := bytes.CutSuffix(tail[:size-4], []byte(mark))
	n := int(binary.BigEndian.Uint32(tail[size-4:]))
	if !ok || n > len(rest) {
		return ErrNoPayload
	}
	return json.Unmarshal(rest[len(rest)-n:], into)
}

// ExitAtOnce has the processes that this one starts end as they would without
// the race detector, which keeps each for another second by default. It
// changes the environment: call it before the first test.
func ExitAtOnce() error {
	const options = "GORACE"
	if strings.Contains(os.Getenv(options), "atexit_sleep_ms") {
		return nil
	}
	return os.Setenv(options, strings.TrimSpace(os.Getenv(options)+" atexit_sleep_ms=0"))
}
