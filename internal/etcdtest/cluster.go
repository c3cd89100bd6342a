package etcdtest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/certtest"
	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/internal/waittest"
)

// Cluster is an etcd of several processes, whose traffic with each other goes
// through proxies. Its methods fail the test that started it; they must not be
// called concurrently.
type Cluster struct {
	// Members may be killed, paused and restarted one by one.
	Members []*Server

	tb    testing.TB
	peers *peers
}

// StartCluster runs an etcd of n members with empty data until the test ends.
// Elections take up to a second: ten times as long as those of a single
// server, so that a busy machine does not cause any.
func StartCluster(tb testing.TB, n int, o Options) *Cluster {
	tb.Helper()
	authority := certtest.New(tb, "etcd peers")
	c := &Cluster{tb: tb, peers: newPeers(n)}
	var initial []string
	for i := range n {
		initial = append(initial, fmt.Sprintf("m%d=%s", i, peerURL(i)))
	}
	for i := range n {
		s := newServer(tb, o)
		s.member = c.peers.member(tb, i)
		cert, key := authority.Issue(tb, fmt.Sprintf("m%d", i))
		s.flags = append([]string{
			fmt.Sprintf("--name=m%d", i), "--initial-cluster=" + strings.Join(initial, ","),
			"--heartbeat-interval=50", "--election-timeout=500",
			"--peer-client-cert-auth=true",
			"--peer-trusted-ca-file=" + s.secrets.write(tb, "peers.crt", authority.PEM()),
			"--peer-cert-file=" + s.secrets.write(tb, "peer.crt", cert),
			"--peer-key-file=" + s.secrets.write(tb, "peer.key", key),
		}, s.flags...)
		c.Members = append(c.Members, s)
	}
	if o.Auth != nil && o.Auth.JWT {
		c.shareTokenKeys()
	}
	c.Restart()
	if o.Auth != nil {
		enableAuth(tb, c.Members[0].anonymous(), o.Auth)
	}
	return c
}

// shareTokenKeys has all members sign tokens with the first one's key, as a
// real cluster does.
func (c *Cluster) shareTokenKeys() {
	first := c.Members[0].secrets.dir
	for _, s := range c.Members[1:] {
		for i, f := range s.flags {
			if strings.HasPrefix(f, "--auth-token=") {
				s.flags[i] = strings.ReplaceAll(f, s.secrets.dir, first)
			}
		}
	}
}

// Restart kills the members that run and starts all of them, or only those
// given by number, on the same data and addresses, together, and waits until
// they serve, which takes a quorum.
func (c *Cluster) Restart(members ...int) {
	c.tb.Helper()
	errs := make([]error, len(c.Members))
	var wg sync.WaitGroup
	for _, i := range c.chosen(members) {
		c.Members[i].Kill()
		wg.Go(func() { errs[i] = c.Members[i].launch(c.tb.Context()) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		c.tb.Fatalf("etcd did not start: %v", err)
	}
}

func (c *Cluster) chosen(members []int) []int {
	if len(members) > 0 {
		return members
	}
	for i := range c.Members {
		members = append(members, i)
	}
	return members
}

// Kill ends all members, or only those given by number, at once.
func (c *Cluster) Kill(members ...int) {
	for _, i := range c.chosen(members) {
		c.Members[i].Kill()
	}
}

// Wipe kills all members, deletes their data and starts them again, empty, on
// the same addresses.
func (c *Cluster) Wipe() {
	c.tb.Helper()
	c.Kill()
	for _, s := range c.Members {
		s.deleteData()
	}
	c.Restart()
}

// Backup saves the data of all members (restarting them meanwhile) and returns
// a function that puts them back: the same cluster, back in time.
func (c *Cluster) Backup() (restore func()) {
	c.tb.Helper()
	var saved []string
	for _, s := range c.Members {
		s.Stop()
		saved = append(saved, s.tb.TempDir())
		s.copyData(saved[len(saved)-1], s.dir)
	}
	c.Restart()
	return func() {
		c.tb.Helper()
		c.Kill()
		for i, s := range c.Members {
			s.deleteData()
			s.copyData(s.dir, saved[i])
		}
		c.Restart()
	}
}

// URLs are the members' addresses for clients.
func (c *Cluster) URLs() []string {
	var urls []string
	for _, s := range c.Members {
		urls = append(urls, s.URL())
	}
	return urls
}

// Client returns a client of all members that is closed when the test ends. It
// may do everything, and has the certificate that is asked for.
func (c *Cluster) Client(tb testing.TB) *clientv3.Client {
	tb.Helper()
	return newClient(tb, c.ClientConfig())
}

// ClientConfig is how Client reaches the cluster.
func (c *Cluster) ClientConfig() etcdkv.ClientConfig {
	cfg := c.Members[0].ClientConfig()
	cfg.Endpoints = c.URLs()
	return cfg
}

// Leader waits until a member that runs, and is not paused, says that it leads,
// and a majority of members agrees; it returns that member's number.
func (c *Cluster) Leader() int {
	c.tb.Helper()
	leader := -1
	waittest.Until(c.tb, "etcd has a leader", func() bool {
		votes := map[uint64]int{}
		ids := map[uint64]int{}
		for i, s := range c.Members {
			if id, lead, ok := s.leads(); ok {
				ids[id] = i
				votes[lead]++
			}
		}
		for lead, n := range votes {
			if i, ok := ids[lead]; ok && n > len(c.Members)/2 {
				leader = i
				return true
			}
		}
		return false
	})
	return leader
}

// leads asks who the server is and whom it follows.
func (s *Server) leads() (id, lead uint64, ok bool) {
	if s.process == nil {
		return 0, 0, false
	}
	c, err := etcdkv.Dial(s.ClientConfig())
	if err != nil {
		return 0, 0, false
	}
	defer func() { _ = c.Close() }()
	ctx, cancel := context.WithTimeout(s.tb.Context(), time.Second)
	defer cancel()
	r, err := c.Status(ctx, s.URL())
	if err != nil {
		return 0, 0, false
	}
	return r.Header.MemberId, r.Leader, true
}

// CutWay stops what one member sends to another, until Heal; what the other
// one sends arrives still.
func (c *Cluster) CutWay(from, to int) { c.peers.freeze(from, to) }

// Isolate stops what members send to and get from all others, until Heal:
// clients still reach them. Members that are isolated together do not reach
// each other either.
func (c *Cluster) Isolate(members ...int) {
	for _, i := range members {
		for j := range c.Members {
			if i != j {
				c.peers.freeze(i, j)
				c.peers.freeze(j, i)
			}
		}
	}
}

// Heal ends CutWay and Isolate.
func (c *Cluster) Heal() { c.peers.heal() }
