// Package release says what a release is, who may make one, and where it
// comes from.
//
// A [Manifest] describes a release and is signed once and for all; the signed
// [Index] of a repository lists releases under a sequence that only grows. A
// [Pin] names one release for ever. [Trust] holds the keys that count, or the
// roots that sign the [Keyring] in which those are listed. A [Client] reads a
// repository through a [Source] and trusts neither, nor a [Cache] between the
// two; a [Repository] publishes into one. A [Policy] says which releases a host takes.
//
// Package upgrade takes what a Client returns and replaces the running
// program by it; publishers and tools need this package alone.
package release
