// Package etcdkv holds what every user of etcd here needs: a client with the
// project's settings, a view of keys that outlives every failure (Watch), and
// a lease that outlives outages shorter than its TTL (Session).
package etcdkv
