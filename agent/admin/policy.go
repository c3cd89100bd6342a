package admin

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"strconv"

	"time"

	"github.com/perennial-go/perennial/internal/tlsfile"
)

// policy says who may what.
type policy struct {
	endpoint
	grants grants
	hosts  map[string]bool
	tokens *tokens        // nil takes none
	files  *tlsfile.Files // nil without TLS
	asks   bool           // for client certificates
}

// newPolicy refuses what would let in whom it should not, or nobody.
func newPolicy(cfg Config) (*policy, error) {
	p := &policy{asks: cfg.ClientCAFile != ""}
	var err error
	if p.endpoint, err = parseAddress(cfg.Address); err != nil {
		return nil, err
	}
	if p.grants, err = newGrants(cfg.Allow); err != nil {
		return nil, err
	}
	if p.hosts, err = newHosts(cfg.Hosts); err != nil {
		return nil, err
	}
	if err := cfg.Tokens.check(); err != nil {
		return nil, err
	}
	if err := p.checkGrants(cfg); err != nil {
		return nil, err
	}
	if err := p.checkReach(cfg); err != nil {
		return nil, err
	}
	paths := tlsfile.Paths{CA: cfg.ClientCAFile, Cert: cfg.CertFile, Key: cfg.KeyFile, What: "certificate of the admin listener"}
	if err := paths.Check(); err != nil {
		return nil, err
	}
	if paths.Cert != "" {
		if p.files, err = tlsfile.Open(paths); err != nil {
			return nil, err
		}
	}
	if cfg.Tokens.given() {
		if p.tokens, err = openTokens(cfg.Tokens); err != nil {
			return nil, err
		}
	}
	p.grantDefaults()
	return p, nil
}

// checkGrants refuses grants that nobody could ever use, or that miss.
func (p *policy) checkGrants(cfg Config) error {
	certificates, ids := p.grants.has(kindURI, kindDNS, kindCN), p.grants.has(kindUID, kindGID)
	switch {
	case certificates && !p.asks:
		return errors.New("grants to names in certificates (uri:, dns:, cn:) need a client CA file, whose authorities vouch for them")
	case p.asks && !certificates:
		return errors.New("a client CA file says who somebody is, not what they may do: grant roles to names in certificates, such as dns:prometheus.example.com=read")
	case p.asks && cfg.CertFile == "":
		return errors.New("client certificates need TLS: give the listener a certificate and its key as well")
	case p.grants.has(kindSub, kindClaim) && !cfg.Tokens.given():
		return errors.New("grants to tokens (sub:, claim:) need a JWKS file, whose keys sign them")
	case ids && p.reach != reachSocket:
		return errors.New("grants to users (uid:, gid:) need a Unix socket: on no other address does the system say who calls")
	case ids && !tellsPeers:
		return fmt.Errorf("grants to users (uid:, gid:) do not work on %s: the system is not asked there who calls", runtime.GOOS)
	}
	return nil
}

// checkReach refuses to be reached by more people than can be told apart.
func (p *policy) checkReach(cfg Config) error {
	secured := cfg.CertFile != "" || cfg.KeyFile != ""
	switch p.reach {
	case reachSocket:
		if runtime.GOOS == "windows" {
			return errNoUnix
		}
		if secured || p.asks {
			return errors.New("TLS is of no use on a Unix socket: the system says who calls; leave the certificates out, or choose an address")
		}
	case reachNetwork:
		switch {
		case !secured || !p.asks && !cfg.Tokens.given():
			return fmt.Errorf("admin address %s can be reached from outside this host: that needs a certificate and key (TLS), and a client CA file or a JWKS file, so that callers show who they are; or choose an address on loopback, such as 127.0.0.1:7071, or a Unix socket", cfg.Address)
		case p.grants[anyone] > Probe:
			return fmt.Errorf("admin address %s can be reached from outside this host: grant anyone probe there and no more, found %v", cfg.Address, p.grants[anyone])
		}
	default:
	}
	return nil
}

// grantDefaults fills in what is meant where nothing was said.
func (p *policy) grantDefaults() {
	if p.tokens != nil && !p.grants.has(kindSub, kindClaim) {
		for role := Probe; role <= Operate; role++ {
			p.grants[kindClaim+role.String()] = role
		}
	}
	switch {
	case p.reach == reachSocket && tellsPeers:
		p.grants[kindUID+"0"] = Operate
		p.grants[kindUID+strconv.Itoa(os.Geteuid())] = Operate
	case p.reach == reachSocket && !p.grants.has(anyone) && p.tokens == nil:
		p.grants[anyone] = Operate // the file's mode keeps the others out
	case p.reach == reachLoopback && len(p.grants) == 0 && p.tokens == nil:
		p.grants[anyone] = Read
	}
}

// peer is who the system says is at the other end.
type peer struct{ uid, gid string }

// caller is who makes a call, and what they may.
type caller struct {
	name string
	role Role
	// shown tells whether they have said who they are.
	shown bool
}

// identify judges the credentials of a call. The error tells what is wrong
// with those that it has.
func (p *policy) identify(r *http.Request, now time.Time) (caller, Reason, error) {
	if p.tokens != nil {
		token, err := bearer(r.Header)
		if err == nil && token != "" {
			var subjects []string
			if subjects, err = p.tokens.subjects(token, now); err == nil {
				return p.named(subjects), "", nil
			}
		}
		if err != nil {
			return caller{}, ReasonToken, fmt.Errorf("the token does not count: %w", err)
		}
	}
	if p.asks && r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		subjects, err := p.certified(r.TLS, now)
		if err != nil {
			return caller{}, ReasonCertificate, fmt.Errorf("the client certificate does not count: %w", err)
		}
		return p.named(subjects), "", nil
	}
	if user, ok := r.Context().Value(peerKey{}).(peer); ok {
		c := p.named([]string{kindUID + user.uid, kindGID + user.gid})
		c.role = max(c.role, p.grants[anyone])
		return c, "", nil
	}
	return caller{name: anyone, role: p.grants[anyone]}, "", nil
}

func (p *policy) certified(state *tls.ConnectionState, now time.Time) ([]string, error) {
	material, _ := p.files.Current() // what is wrong with the files, watch tells
	var roots *x509.CertPool
	if roots = material.Roots; roots == nil {
		return nil, errors.New("there are no authorities")
	}
	return subjectsOf(state.PeerCertificates, roots, now)
}

func (p *policy) named(subjects []string) caller {
	c := caller{role: p.grants.best(subjects...), shown: true}
	if len(subjects) > 0 {
		c.name = subjects[0]
	}
	return c
}
