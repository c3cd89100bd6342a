// Package limit bounds what clients can cost an HTTP server that strangers
// reach: how large, how often, how many at a time and for how long.
//
// A [Guard] is made from [Limits], whose zero values are defaults. Its Protect
// puts the bounds of size and time on an http.Server and counts connections;
// its Handler bounds rate and concurrency.
//
// # What it protects from
//
//   - Clients that never finish a header, a body or the reading of an answer:
//     each has a time, and one peer can hold only some of the connections.
//   - Headers and bodies without end.
//   - One peer that asks so often that others get no turn. A peer is an IPv4
//     address or an IPv6 network of 64 bits: whoever has one address of that
//     has all of them.
//   - A flood from so many peers that remembering them would be the damage:
//     the table of peers is bounded, and those that find no room share one
//     allowance.
//
// # What it does not
//
// A handler that ignores the end of its request's context goes on, and keeps
// its place among the requests in progress. Clients behind one address, such as
// those on loopback, are one peer.
package limit
