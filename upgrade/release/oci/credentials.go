package oci

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"

	"oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"github.com/perennial-go/perennial/upgrade/release"
)

// authorized sends requests to one registry with what docker's configuration
// has for it. It never repeats a request but after an exchange of tokens.
type authorized struct {
	client *auth.Client
	scope  registry.Reference
}

var _ release.Doer = (*authorized)(nil)

func newAuthorized(ref Reference, client *http.Client, dockerConfig string) *authorized {
	return &authorized{
		scope: registry.Reference{Registry: ref.Host, Repository: ref.Repository},
		client: &auth.Client{
			Client:   client,
			Cache:    auth.NewCache(),
			ClientID: "perennial",
			Header:   http.Header{"User-Agent": {"perennial"}},
			// The file is read when it is needed: an agent lives longer than
			// most passwords.
			Credential: func(ctx context.Context, host string) (auth.Credential, error) {
				return dockerCredential(ctx, dockerConfig, host)
			},
		},
	}
}

func dockerCredential(ctx context.Context, path, host string) (auth.Credential, error) {
	var store credentials.Store
	var err error
	if path == "" {
		store, err = credentials.NewStoreFromDocker(credentials.StoreOptions{})
	} else {
		store, err = credentials.NewStore(path, credentials.StoreOptions{})
	}
	if err != nil {
		return auth.EmptyCredential, fmt.Errorf("%w: docker's configuration cannot be read: %w", fs.ErrPermission, err)
	}
	found, err := credentials.Credential(store)(ctx, host)
	if err != nil {
		return auth.EmptyCredential, fmt.Errorf("%w: docker's credentials for %s cannot be read: %w", fs.ErrPermission, host, err)
	}
	return found, nil
}

// Do implements release.Doer and remote.Client.
func (a *authorized) Do(req *http.Request) (*http.Response, error) {
	ctx := auth.AppendRepositoryScope(req.Context(), a.scope, auth.ActionPull)
	resp, err := a.client.Do(req.WithContext(ctx))
	if err != nil {
		return nil, a.explain(plainError(err))
	}
	if resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden {
		err := a.refused(fmt.Errorf("the registry answered %s", resp.Status))
		return nil, errors.Join(err, resp.Body.Close())
	}
	return resp, nil
}

// explain marks what another attempt cannot mend.
func (a *authorized) explain(err error) error {
	if errors.Is(err, auth.ErrBasicCredentialNotFound) {
		return a.refused(errors.New("the registry wants credentials and docker's configuration has none"))
	}
	if answer, ok := errors.AsType[*errcode.ErrorResponse](err); ok && (answer.StatusCode == http.StatusUnauthorized || answer.StatusCode == http.StatusForbidden) {
		return a.refused(fmt.Errorf("the registry's token service answered %d", answer.StatusCode))
	}
	return err
}

func (a *authorized) refused(err error) error {
	return fmt.Errorf("%w: %s/%s: %w: run docker login %s as the user that this runs as", fs.ErrPermission, a.scope.Registry, a.scope.Repository, err, a.scope.Registry)
}

// plainError takes the query out of an address in an error: where a registry
// redirects to, it is a signature that opens the file to whoever has it.
func plainError(err error) error {
	failed, ok := errors.AsType[*url.Error](err)
	if !ok {
		return err
	}
	u, parseErr := url.Parse(failed.URL)
	if parseErr != nil {
		return failed.Err
	}
	u.RawQuery, u.User = "", nil
	return &url.Error{Op: failed.Op, URL: u.String(), Err: failed.Err}
}
