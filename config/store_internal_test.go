package config

import (
	"os"
	"path/filepath"
	"testing"
)

// TestNotingALossKeepsTheGoodFiles of the host: those there now may be bad,
// and the next start needs the good ones again.
func TestNotingALossKeepsTheGoodFiles(t *testing.T) {
	s, err := New(Config[parts]{})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "config.json")
	k := &keeper{path: path, keys: []string{"global"}}
	good := layers{
		files: []document{{Key: "/f", Data: []byte("a: 1"), local: true}},
		etcd:  []document{{Key: "global", Revision: 7, Data: []byte("b: 1")}},
		store: store{Cluster: 1, Revision: 7},
	}
	if err := k.keep(good); err != nil {
		t.Fatal(err)
	}
	s.cfg.Files = []string{"/f"}
	r := &runner[parts]{Store: s, keeper: k, origin: OriginFile}
	r.layers.files = []document{{Key: "/f", Data: []byte("a: bad"), local: true}}
	if err := r.loadFrom(t.Context(), view{store: store{Cluster: 2, Revision: 1}}); err != nil {
		t.Fatal(err)
	}
	kept, err := k.read(DefaultMaxBytes, 1)
	if err != nil || !kept.Store.Lost || kept.Store.Cluster != 1 || len(kept.Files) != 1 || string(kept.Files[0].Data) != "a: 1" {
		text, _ := os.ReadFile(path)
		t.Errorf("%v: kept %s", err, text)
	}
	if v := r.Snapshot().Value; v.A != 1 || v.B != 1 {
		t.Errorf("runs %+v", v)
	}
}
