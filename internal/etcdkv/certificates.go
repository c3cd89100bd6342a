package etcdkv

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/perennial-go/perennial/internal/backoff"
	"github.com/perennial-go/perennial/internal/tlsfile"
)

const (
	// lookEvery is the pause, jittered, between two looks at the files.
	lookEvery = 10 * time.Second
	// remindEvery is the pause between two warnings of the same.
	remindEvery = time.Hour
)

// certificates is what connections are secured with. The files are looked at
// for each connection, and now and then so that a mistake is known before a
// connection needs them.
//
// A connection that stands goes on with the certificates that it was made
// with: etcd looks at them in the handshake only, and a reconnect would be an
// outage that gains nothing, and would make one wrong file that of the whole
// fleet at once.
type certificates struct {
	base    *tls.Config
	files   *tlsfile.Files // nil = base says all
	log     *slog.Logger
	metrics *Metrics

	mu      sync.Mutex
	changes int
	trouble string // told last
	told    time.Time
}

func openCertificates(cfg ClientConfig) (*certificates, error) {
	c := &certificates{base: cfg.TLS.Clone(), log: cfg.Logger, metrics: cfg.Metrics}
	if c.base == nil {
		c.base = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if !cfg.Files.Given() {
		return c, nil
	}
	var err error
	if c.files, err = tlsfile.Open(cfg.Files); err != nil {
		return nil, err
	}
	c.material()
	return c, nil
}

// config returns the configuration for one connection.
func (c *certificates) config() *tls.Config {
	config := c.base.Clone()
	if c.files == nil {
		return config
	}
	m := c.material()
	if m.Roots != nil {
		config.RootCAs = m.Roots
	}
	if m.Pair != nil {
		// Not Certificates: those are left out where the server's list of
		// authorities does not name their issuer, and then nothing tells
		// that one was there.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return m.Pair, nil }
	}
	return config
}

// pair is the client certificate of the files.
func (c *certificates) pair() *tls.Certificate {
	if c == nil || c.files == nil {
		return nil
	}
	m, _ := c.files.Current()
	return m.Pair
}

// shows is the certificate that a server is shown, for a message; nil = none
// that is known.
func (c *certificates) shows() *tls.Certificate {
	if p := c.pair(); p != nil || len(c.base.Certificates) == 0 || c.base.Certificates[0].Leaf == nil {
		return p
	}
	return &c.base.Certificates[0]
}

// given tells whether the program itself names authorities.
func (c *certificates) given() bool { return c.base.RootCAs != nil }

// user is whom etcd takes the bearer of the certificate for.
func (c *certificates) user() string {
	if p := c.pair(); p != nil {
		return p.Leaf.Subject.CommonName
	}
	return ""
}

// follow looks at the files until ctx ends.
func (c *certificates) follow(ctx context.Context) {
	for backoff.Sleep(ctx, backoff.Jitter(lookEvery, 0.2)) == nil {
		c.material()
	}
}

// material reads the files as they are now and says what changed.
func (c *certificates) material() tlsfile.Material {
	m, err := c.files.Current()
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.Changes != c.changes {
		c.changes = m.Changes
		c.metrics.reloads.Inc()
		c.log.Info("etcd certificates were replaced: new connections use them", "name", describe(m.Pair))
	}
	c.metrics.files(err == nil, m.Pair)
	trouble := ""
	switch {
	case err != nil:
		trouble = fmt.Sprintf("what is on disk cannot be used, so what was read before stays in use: %v", err)
	case m.Pair != nil && endsSoon(m.Pair, time.Now()):
		trouble = fmt.Sprintf("the client certificate for etcd ends on %s: renew it", day(m.Pair.Leaf.NotAfter))
	}
	if trouble != "" && (trouble != c.trouble || time.Since(c.told) > remindEvery) {
		c.log.Warn("etcd certificates need attention", "reason", trouble)
		c.told = time.Now()
	}
	if trouble == "" && c.trouble != "" {
		c.log.Info("etcd certificates are in order again", "name", describe(m.Pair))
	}
	c.trouble = trouble
	return m
}

// endsSoon is true in the last tenth of a certificate's life, and after it.
func endsSoon(pair *tls.Certificate, now time.Time) bool {
	life := pair.Leaf.NotAfter.Sub(pair.Leaf.NotBefore)
	return now.After(pair.Leaf.NotAfter.Add(-life / 10))
}

func describe(pair *tls.Certificate) string {
	if pair == nil {
		return "none"
	}
	return fmt.Sprintf("%s, until %s", subject(pair.Leaf), day(pair.Leaf.NotAfter))
}
