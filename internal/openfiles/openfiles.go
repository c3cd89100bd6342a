// Package openfiles tells how many files a process has open, and may have.
package openfiles

// Unlimited is a Limit that is none.
const Unlimited = ^uint64(0)
