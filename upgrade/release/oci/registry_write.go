package oci

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"github.com/perennial-go/perennial/internal/backoff"
)

var errStalled = errors.New("stalled")

// hasBlob implements target.
func (r *remoteRegistry) hasBlob(ctx context.Context, d ocispec.Descriptor) (has bool, err error) {
	err = r.retry(ctx, func(ctx context.Context, _ func()) (err error) {
		has, err = r.repo.Blobs().Exists(ctx, d)
		return err
	})
	return has, err
}

// putBlob implements target.
func (r *remoteRegistry) putBlob(ctx context.Context, d ocispec.Descriptor, open func() (io.ReadCloser, error)) error {
	return r.retry(ctx, func(ctx context.Context, alive func()) error {
		body, err := open()
		if err != nil {
			return final{err}
		}
		err = r.repo.Blobs().Push(ctx, d, &aliveReader{r: body, alive: alive})
		return errors.Join(err, body.Close())
	})
}

// putManifest implements target.
func (r *remoteRegistry) putManifest(ctx context.Context, d ocispec.Descriptor, raw []byte, tag string) error {
	return r.retry(ctx, func(ctx context.Context, _ func()) error {
		if tag != "" {
			return r.repo.Manifests().PushReference(ctx, d, bytes.NewReader(raw), tag)
		}
		return r.repo.Manifests().Push(ctx, d, bytes.NewReader(raw))
	})
}

// final marks an error that another attempt cannot mend.
type final struct{ error }

func (f final) Unwrap() error { return f.error }

// retry calls f until it succeeds, its error is final or the attempts have
// run out. A call in which nothing happens for the stall timeout is ended;
// alive tells that something did.
func (r *remoteRegistry) retry(ctx context.Context, f func(ctx context.Context, alive func()) error) error {
	wait := backoff.Backoff{Min: 100 * time.Millisecond, Max: 5 * time.Second}
	for attempt := 1; ; attempt++ {
		err := r.watch(ctx, f)
		if err == nil || !temporary(err) {
			return err
		}
		if attempt >= r.attempts {
			return fmt.Errorf("%w (given up after %d attempts)", err, attempt)
		}
		if waitErr := wait.Wait(ctx); waitErr != nil {
			return fmt.Errorf("%w: %w", waitErr, err)
		}
	}
}

func (r *remoteRegistry) watch(parent context.Context, f func(ctx context.Context, alive func()) error) error {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	timer := time.AfterFunc(r.stall, func() { cancel(errStalled) })
	defer timer.Stop()
	err := f(ctx, func() { timer.Reset(r.stall) })
	if err != nil && errors.Is(context.Cause(ctx), errStalled) {
		return fmt.Errorf("%w: %s did nothing for %v", errStalled, r, r.stall)
	}
	return err
}

func temporary(err error) bool {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return false
	}
	if _, ok := errors.AsType[final](err); ok || errors.Is(err, fs.ErrPermission) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	if answer, ok := errors.AsType[*errcode.ErrorResponse](err); ok {
		code := answer.StatusCode
		return code >= 500 || code == http.StatusRequestTimeout || code == http.StatusTooManyRequests
	}
	return true
}

// aliveReader tells that the other side takes what it is sent.
type aliveReader struct {
	r     io.Reader
	alive func()
}

// Read implements io.Reader.
func (a *aliveReader) Read(p []byte) (int, error) {
	a.alive()
	return a.r.Read(p)
}
