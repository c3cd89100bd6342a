// Package oci keeps a repository of releases in an OCI registry or in an OCI
// image layout directory. It is apart from package release so that only who
// wants registries links their client.
//
// # What lies in the registry
//
// One repository of the registry holds the releases of one program. Every
// file of the repository directory that is named by its digest (binaries,
// their encodings, manifests) is a blob of that digest. The rest (the index,
// the keyring and the signatures) are the layers of one artifact, each with
// its path as org.opencontainers.image.title. An image index under the tag
// "perennial" lists that artifact and the releases. The tag moves, and may:
// what it leads to counts only by its signature, sequence and expiry, as in
// a directory.
//
// For people and other tools each release is an image index of its own with
// one image manifest a platform, whose configuration is the signed manifest
// and whose layers are the binary and its encodings. It is tagged with the
// version; a version with build metadata, whose "+" no tag can have, is
// reached by digest only. Nothing here reads such a tag.
//
// # What is trusted
//
// Nothing: neither the registry nor what is between. A registry can withhold,
// and that is all. What it answers is bounded in size, manifests are fetched
// by digest and compared with it, and package release checks the rest.
// Credentials come from docker's configuration, go to the registry that they
// are for alone, and are never part of an error or a name.
//
// A cosign signature of a release's image index can be demanded beside the
// signatures of the release keys: see RequireCosign.
package oci
