package config

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestStatusTellsSilenceThatNobodyReports: a frozen etcd says nothing, not
// even that it is frozen, and the configuration grows old meanwhile.
func TestStatusTellsSilenceThatNobodyReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r reporter
		r.begin(nil, nil)
		began := time.Now()
		var heard time.Time
		r.listens(func() time.Time { return heard })
		if s := r.status(); !s.EtcdHeard.IsZero() || !s.EtcdSilentSince.Equal(began) {
			t.Errorf("before it was heard: %+v", s)
		}
		<-time.After(time.Minute)
		heard = time.Now()
		<-time.After(silence)
		if s := r.status(); !s.EtcdHeard.Equal(heard) || !s.EtcdSilentSince.IsZero() {
			t.Errorf("while it is heard: %+v", s)
		}
		<-time.After(time.Second)
		if s := r.status(); !s.EtcdHeard.Equal(heard) || !s.EtcdSilentSince.Equal(heard) {
			t.Errorf("frozen: %+v", s)
		}
		was := heard
		r.etcdError(errors.New("no"))
		heard = time.Now() // it answers, and refuses
		r.etcdError(errors.New("still no"))
		if s := r.status(); !s.EtcdHeard.Equal(heard) || !s.EtcdSilentSince.Equal(was) {
			t.Errorf("with errors: %+v, want silence since %s", s, was)
		}
		r.etcdError(nil)
		if s := r.status(); !s.EtcdSilentSince.IsZero() {
			t.Errorf("after them: %+v", s)
		}
	})
}
