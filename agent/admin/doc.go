// Package admin is the listener that an agent answers its operators on: probes,
// metrics, status, profiles, and what its author adds. It decides who may ask
// what, and bounds what asking can cost.
//
// # Who may what
//
// Each route wants a [Role]: [Probe] < [Read] < [Operate]. Callers get theirs by
//
//   - a client certificate that one of Config.ClientCAFile's authorities has
//     signed for clients, by its names (uri:, dns:, and cn: where that is said);
//   - a bearer token, a JWT signed by a key of Config.Tokens.JWKSFile, by its
//     subject or its role claim;
//   - the user that the system says a process on the Unix socket runs as. The
//     agent's own user and root have Operate there: both could as well take
//     the process over;
//   - being there, where [Grant] says "anyone". Without credentials configured
//     that is Read on loopback.
//
// A call with a token is judged by the token alone, whatever certificate it
// comes with, and a bad token is not made good by a certificate.
//
// On an address that is neither loopback nor a Unix socket the listener starts
// only with TLS and one of the first two, and anyone can have Probe at most.
//
// # Threats
//
//   - Whoever reaches the port: is refused by role, counted and logged without
//     its secret; is bounded in size, rate, connections and time (package
//     limit). HTTP/2 is not offered, so nothing of it can be abused.
//   - A web page in a browser on the host: cannot read (the same-origin policy),
//     cannot pass for the same origin by DNS rebinding (on loopback the Host
//     must be a loopback name, or one of Config.Hosts), and cannot cause what
//     wants Operate (Sec-Fetch-Site and Origin are looked at, for GET too).
//   - Another user of the host: on loopback has Read unless credentials are
//     configured; on the Unix socket nothing. The directory of the socket must
//     not be writable for everybody.
//   - A stolen token: counts until it expires, a stolen certificate likewise.
//     Remove the grant (at a restart) or the key or authority (at once) to end
//     it sooner: files are read anew when they change, and each call of an open
//     connection is judged anew.
//
// Not guarded against: whoever may write to the files named in Config; a
// denial of service by somebody with the address of everybody else, such as a
// local user on loopback.
//
// # Tokens
//
// Signed with RS, PS or ES 256 to 512 or EdDSA, by a key that the token names
// by its kid and that the set has once. RSA keys have 2048 bits or more. A set
// with a private or symmetric key, without a kid or with one twice, is refused
// as a whole; keys for encryption are passed over. exp, iss and aud must be
// there, aud may be a list; nbf and iat are looked at where they are. Clocks may
// differ by [Leeway]. Tokens with crit or b64 headers are refused, and so are
// those above 8 KiB.
package admin
