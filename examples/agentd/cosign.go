package main

import (
	"os"

	"github.com/perennial-go/perennial/upgrade/release"
	"github.com/perennial-go/perennial/upgrade/release/cosign"
	"github.com/perennial-go/perennial/upgrade/release/cosign/cosignkey"
	"github.com/perennial-go/perennial/upgrade/release/oci"
)

// cosigned demands a cosign signature of each release.
func cosigned(r *repository, file string) ([]release.Requirement, error) {
	if !oci.IsLocation(r.location) {
		return nil, usagef("--cosign-key: signatures of cosign lie in OCI registries and layouts: give --repo oci://host/repository or oci-layout:DIR")
	}
	// Not by way of a cache, which keeps what release keys have signed.
	registry, err := oci.New(r.registry(r.location))
	if err != nil {
		return nil, err
	}
	key, err := cosign.LoadPublicKey(file)
	if err != nil {
		return nil, err
	}
	required, err := oci.RequireCosign(oci.CosignConfig{Source: registry, Key: key})
	if err != nil {
		return nil, err
	}
	return []release.Requirement{required}, nil
}

// cosignPassword is the one that cosign itself reads.
const cosignPassword = "COSIGN_PASSWORD"

// signingKey reads the key that signs images; no file is no key.
func signingKey(file string) (*cosign.PrivateKey, error) {
	if file == "" {
		return nil, nil //nolint:nilnil // no key is no signature
	}
	return cosignkey.Load(file, []byte(os.Getenv(cosignPassword)))
}
