package admin

import (
	"fmt"
	"strconv"
	"strings"
)

// Grant gives a role to a subject.
type Grant struct {
	// Subject is a kind and a name, as in "dns:prometheus.example.com", compared
	// as a whole; a "*" stands for itself. The kinds:
	//
	//	uri:   a SAN URI of the client certificate, such as uri:spiffe://prod/ops
	//	dns:   a SAN DNS name of it, in lower case
	//	cn:    the common name of its subject
	//	sub:   the subject of a token
	//	claim: a value of the token's claim Tokens.RoleClaim
	//	uid:   the user id of a process that calls by the Unix socket
	//	gid:   its primary group id
	//
	// "anyone" is whoever shows nothing else.
	Subject string
	Role    Role
}

const anyone = "anyone"

// The kinds of a subject.
const (
	kindURI   = "uri:"
	kindDNS   = "dns:"
	kindCN    = "cn:"
	kindSub   = "sub:"
	kindClaim = "claim:"
	kindUID   = "uid:"
	kindGID   = "gid:"
)

const maxSubject = 512

// ParseGrant reads "SUBJECT=ROLE", such as "dns:prometheus.example.com=read".
func ParseGrant(text string) (Grant, error) {
	at := strings.LastIndexByte(text, '=')
	if at < 0 {
		return Grant{}, fmt.Errorf("grant %.80q: want SUBJECT=ROLE, such as dns:prometheus.example.com=read", text)
	}
	role, err := ParseRole(text[at+1:])
	if err != nil {
		return Grant{}, fmt.Errorf("grant %.80q: %w", text, err)
	}
	g := Grant{Subject: text[:at], Role: role}
	return g, g.check()
}

func (g Grant) check() error {
	if g.Role <= None || g.Role > Operate {
		return fmt.Errorf("grant to %.80q: %v: want probe, read or operate", g.Subject, g.Role)
	}
	kind, name := g.split()
	switch {
	case g.Subject == anyone:
		return nil
	case name == "" || len(g.Subject) > maxSubject:
	case kind == kindUID, kind == kindGID:
		if n, err := strconv.ParseUint(name, 10, 32); err == nil && strconv.FormatUint(n, 10) == name {
			return nil
		}
		return fmt.Errorf("grant to %.80q: want a number after %s", g.Subject, kind)
	case kind == kindDNS:
		if name == strings.ToLower(name) {
			return nil
		}
		return fmt.Errorf("grant to %.80q: want the DNS name in lower case", g.Subject)
	case kind == kindURI, kind == kindCN, kind == kindSub, kind == kindClaim:
		return nil
	}
	return fmt.Errorf("grant to %.80q: want anyone, or uri:, dns:, cn:, sub:, claim:, uid: or gid: with a name of at most %d bytes behind it", g.Subject, maxSubject)
}

func (g Grant) split() (kind, name string) {
	at := strings.IndexByte(g.Subject, ':') + 1
	return g.Subject[:at], g.Subject[at:]
}

// grants knows what each subject may.
type grants map[string]Role

func newGrants(list []Grant) (grants, error) {
	all := grants{}
	for _, g := range list {
		if err := g.check(); err != nil {
			return nil, err
		}
		if was, twice := all[g.Subject]; twice && was != g.Role {
			return nil, fmt.Errorf("grants to %.80q: want one role, found %v and %v", g.Subject, was, g.Role)
		}
		all[g.Subject] = g.Role
	}
	return all, nil
}

// best is the highest role of any of the subjects.
func (g grants) best(subjects ...string) Role {
	role := None
	for _, s := range subjects {
		role = max(role, g[s])
	}
	return role
}

// has tells whether any subject is of one of the kinds.
func (g grants) has(kinds ...string) bool {
	for subject := range g {
		for _, kind := range kinds {
			if strings.HasPrefix(subject, kind) {
				return true
			}
		}
	}
	return false
}
