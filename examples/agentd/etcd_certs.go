package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/examples/agentd/internal/access"
	"github.com/perennial-go/perennial/examples/agentd/internal/certs"
)

func newEtcdCertsCommand() *cobra.Command {
	return newGroup("certs", "Make and renew certificates for etcd and its users: a small authority",
		"  agentd etcd certs create --dir /root/etcd-certs --member etcd1=10.0.0.1,etcd1.example.com --user root --agent a1",
		newEtcdCertsCreateCommand(), newEtcdCertsRenewCommand(), newEtcdCertsListCommand())
}

const certsHelp = `
The directory holds ca.pem, which everybody gets, and NAME.pem for each member
of etcd (member-NAME) and each user, with the certificate and its key in one
file, mode 0600: give it to --etcd-cert and --etcd-key both. ca.key.pem signs:
keep it off the hosts.`

// certsFlags are common to the commands.
type certsFlags struct {
	dir   string
	valid time.Duration
}

func (c *certsFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.dir, "dir", "", "`directory` of the authority and its certificates, mode 0700")
	require(cmd, "dir", "/root/etcd-certs")
}

func (c *certsFlags) addValid(cmd *cobra.Command) {
	c.add(cmd)
	cmd.Flags().DurationVar(&c.valid, "valid", 90*24*time.Hour, "how long new certificates are valid")
}

// wantedCert is a certificate that is asked for.
type wantedCert struct {
	name  string
	hosts []string
}

func newEtcdCertsCreateCommand() *cobra.Command {
	var (
		c                      certsFlags
		members, users, agents []string
		root                   string
	)
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make an authority and certificates, as far as they are not there",
		Long: `create makes an authority in --dir and the certificates that are asked for.
Those that are there already stay as they are, except a member's whose names
have changed.
` + certsHelp,
		Example: `  agentd etcd certs create --dir /root/etcd-certs --member etcd1=10.0.0.1,etcd1.example.com \
    --member etcd2=10.0.0.2,etcd2.example.com --member etcd3=10.0.0.3,etcd3.example.com \
    --user root --user operator --agent a1 --agent a2`,
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			fleet, err := fleetAt(root)
			if err != nil {
				return err
			}
			wanted, err := wantedCerts(members, users, agents, fleet)
			if err != nil {
				return err
			}
			if err := positive("valid", c.valid); err != nil {
				return err
			}
			return c.create(cmd, wanted)
		},
	}
	c.addValid(cmd)
	f := cmd.Flags()
	f.StringArrayVar(&members, "member", nil, "member of etcd as `NAME=HOST,...`, with all names and addresses that clients and peers use; may be repeated")
	f.StringSliceVar(&users, "user", nil, "`name` of an etcd user; may be repeated")
	f.StringSliceVar(&agents, "agent", nil, "`id` of an agent, whose user is called agent-ID; may be repeated")
	f.StringVar(&root, "etcd-root", access.DefaultRoot, "`prefix` of the fleet's keys, by which its users are called")
	return cmd
}

func wantedCerts(members, users, agents []string, fleet access.Fleet) ([]wantedCert, error) {
	var wanted []wantedCert
	for _, m := range members {
		name, hosts, ok := strings.Cut(m, "=")
		if err := access.CheckName(name); !ok || err != nil || !certs.Hosts(strings.Split(hosts, ",")) {
			return nil, usagef("--member: want NAME=HOST,..., such as etcd1=10.0.0.1,etcd1.example.com, found %q", m)
		}
		wanted = append(wanted, wantedCert{"member-" + name, strings.Split(hosts, ",")})
	}
	for _, id := range agents {
		if err := access.CheckName(id); err != nil {
			return nil, usagef("--agent: %w", err)
		}
		users = append(users, fleet.AgentName(id))
	}
	for _, u := range users {
		if err := access.CheckUser(u); err != nil || u == "ca" || u == "ca.key" || strings.HasPrefix(u, "member-") {
			return nil, usagef("--user: want the name of an etcd user, found %q, which cannot be a file of the directory", u)
		}
		wanted = append(wanted, wantedCert{u, nil})
	}
	return wanted, nil
}

func (c *certsFlags) create(cmd *cobra.Command, wanted []wantedCert) error {
	dir, out := certs.Dir(c.dir), cmd.OutOrStdout()
	made, err := dir.Init()
	if err != nil {
		return fmt.Errorf("--dir: %w", err)
	}
	if made {
		if _, err := fmt.Fprintln(out, "made an authority"); err != nil {
			return err
		}
	}
	have, err := dir.List()
	if err != nil {
		return err
	}
	for _, w := range wanted {
		if slices.ContainsFunc(have, func(l certs.Leaf) bool { return l.Name == w.name && l.SameHosts(w.hosts) }) {
			continue
		}
		if err := dir.Issue(w.name, w.hosts, c.valid); err != nil {
			return err
		}
		made = true
		if _, err := fmt.Fprintln(out, "made", w.name); err != nil {
			return err
		}
	}
	if !made {
		_, err = fmt.Fprintln(out, "nothing to do: the certificates are there")
	}
	return err
}

func newEtcdCertsRenewCommand() *cobra.Command {
	var (
		c              certsFlags
		within         time.Duration
		authority, old bool
	)
	cmd := &cobra.Command{
		Use:   "renew",
		Short: "Renew certificates that end soon, or the authority",
		Long: `renew makes those certificates anew that end --within a time, with other keys.
Agents and etcd take them from their files for each new connection; nothing
has to be restarted.

The authority is exchanged in three steps. --new-authority makes one that signs
from now on, and ca.pem with both: bring that to every host, and restart the
members of etcd one by one, which read it when they start. Then renew all, with
--within 87600h, and bring the certificates to their hosts. At last
--drop-old-authority leaves the new one alone in ca.pem: bring that to every
host, and restart the members again.
` + certsHelp,
		Example: "  agentd etcd certs renew --dir /root/etcd-certs --within 720h\n" +
			"  agentd etcd certs renew --dir /root/etcd-certs --new-authority",
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir := certs.Dir(c.dir)
			switch {
			case authority && old:
				return usagef("--new-authority and --drop-old-authority are two steps: give one")
			case authority:
				if err := dir.NewAuthority(); err != nil {
					return err
				}
				_, err := fmt.Fprintln(cmd.OutOrStdout(), "made an authority; ca.pem holds it and those before")
				return err
			case old:
				if err := dir.DropOldAuthorities(); err != nil {
					return err
				}
				_, err := fmt.Fprintln(cmd.OutOrStdout(), "ca.pem holds the authority alone that signs")
				return err
			}
			if err := positive("valid", c.valid); err != nil {
				return err
			}
			return c.renew(cmd, within)
		},
	}
	c.addValid(cmd)
	cmd.Flags().DurationVar(&within, "within", 30*24*time.Hour, "renew those that end within this time")
	cmd.Flags().BoolVar(&authority, "new-authority", false, "make another authority, and trust both")
	cmd.Flags().BoolVar(&old, "drop-old-authority", false, "trust only the authority that signs")
	return cmd
}

func (c *certsFlags) renew(cmd *cobra.Command, within time.Duration) error {
	dir := certs.Dir(c.dir)
	leaves, err := dir.List()
	if err != nil {
		return fmt.Errorf("--dir: %w", err)
	}
	renewed := 0
	for _, l := range leaves {
		if time.Until(l.Until) > within {
			continue
		}
		if err := dir.Issue(l.Name, l.Hosts, c.valid); err != nil {
			return err
		}
		renewed++
		if _, err := fmt.Fprintln(cmd.OutOrStdout(), "renewed", l.Name); err != nil {
			return err
		}
	}
	if renewed == 0 {
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "nothing to do: no certificate ends within %v\n", within)
	}
	return err
}

// certsList is the answer in JSON.
type certsList struct {
	Schema       int          `json:"schema"`
	Authorities  []string     `json:"authorities"`
	Certificates []certs.Leaf `json:"certificates"`
}

func newEtcdCertsListCommand() *cobra.Command {
	var c certsFlags
	var output *format
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the certificates and when they end",
		Long:    "list shows the authorities that ca.pem holds, the newest first, and the\ncertificates of the directory.\n" + certsHelp,
		Example: "  agentd etcd certs list --dir /root/etcd-certs",
		Args:    takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir := certs.Dir(c.dir)
			list := certsList{Schema: 1, Certificates: []certs.Leaf{}}
			var err error
			if list.Authorities, err = dir.Authorities(); err != nil {
				return fmt.Errorf("--dir: %w", err)
			}
			leaves, err := dir.List()
			if err != nil {
				return fmt.Errorf("--dir: %w", err)
			}
			list.Certificates = append(list.Certificates, leaves...)
			if output.json() {
				return printJSON(cmd.OutOrStdout(), list)
			}
			rows := [][]string{{"NAME", "UNTIL", "HOSTS", "AUTHORITY"}}
			for _, l := range list.Certificates {
				rows = append(rows, []string{l.Name, stamp(l.Until), dash(strings.Join(l.Hosts, ",")), l.Authority})
			}
			return printTable(cmd.OutOrStdout(), rows)
		},
	}
	c.add(cmd)
	output = formatFlag(cmd)
	return cmd
}
