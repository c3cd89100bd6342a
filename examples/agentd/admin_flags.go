package main

import (
	"net"
	"strings"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/agent/admin"
)

// adminFlags say where the admin listener is and who may ask it what.
type adminFlags struct {
	address             string
	cert, key, clientCA string
	jwks                string
	issuer, audience    string
	roleClaim           string
	allow, hosts        []string
}

func (a *adminFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&a.address, "admin", "127.0.0.1:7071", "`address` for health, metrics and status, such as unix:/run/agentd/admin.sock; empty for none")
	f.StringVar(&a.cert, "admin-cert", "", "PEM `file` of the admin listener's certificate; this and the other files are read anew when they change")
	f.StringVar(&a.key, "admin-key", "", "PEM `file` of that certificate's key, mode 0600")
	f.StringVar(&a.clientCA, "admin-client-ca", "", "PEM `file` of the authorities that sign certificates of callers; needs --admin-allow")
	f.StringVar(&a.jwks, "admin-jwks", "", "`file` with the JSON Web Key Set of who issues bearer tokens")
	f.StringVar(&a.issuer, "admin-issuer", "", "`iss` of the tokens that count")
	f.StringVar(&a.audience, "admin-audience", "", "`aud` of the tokens that count")
	f.StringVar(&a.roleClaim, "admin-role-claim", "", "`claim` of a token with its roles; default perennial_role")
	f.StringArrayVar(&a.allow, "admin-allow", nil, "`subject=role` that may call: uri:, dns: or cn: for a name in a certificate, sub: or claim: for a token, uid: or gid: on a Unix socket, or anyone; with probe, read or operate; may be repeated")
	f.StringSliceVar(&a.hosts, "admin-host", nil, "`name` by which the admin listener on loopback is called too, as by a proxy; may be repeated")
}

// config checks what the flags say; the files that they name are read by the
// agent.
func (a *adminFlags) config() (admin.Config, error) {
	cfg := admin.Config{
		Address: a.address, CertFile: a.cert, KeyFile: a.key, ClientCAFile: a.clientCA,
		Tokens: admin.Tokens{JWKSFile: a.jwks, Issuer: a.issuer, Audience: a.audience, RoleClaim: a.roleClaim},
		Hosts:  a.hosts,
	}
	for _, text := range a.allow {
		g, err := admin.ParseGrant(text)
		if err != nil {
			return cfg, usagef("--admin-allow: %w", err)
		}
		cfg.Allow = append(cfg.Allow, g)
	}
	if a.address == "" {
		if a.cert+a.key+a.clientCA+a.jwks != "" || len(a.allow) > 0 {
			return cfg, usagef("--admin is empty, so there is no admin listener for the other --admin flags: give its address")
		}
		return cfg, nil
	}
	if err := cfg.Check(); err != nil {
		return cfg, usagef("--admin and its flags: %w", err)
	}
	return cfg, nil
}

// shown is the listener's address for people and for adminClient.
func (a *adminFlags) shown(at net.Addr) string {
	switch {
	case at == nil:
		return "nothing"
	case strings.HasPrefix(a.address, "unix:"):
		return "unix:" + at.String()
	case a.cert != "":
		return "https://" + at.String()
	}
	return "http://" + at.String()
}
