package rollout

import (
	"testing"

	"github.com/perennial-go/perennial/internal/etcdkv"
)

// TestAControllerDoesNotDecideUponItsOwnWrites: with ten thousand agents it would decide
// twice for each step, and read books again that it has just written.
func TestAControllerDoesNotDecideUponItsOwnWrites(t *testing.T) {
	k := keys{"/agents/", DefaultFleet}
	rung := func(tm *term) bool {
		select {
		case <-tm.bell:
			return true
		default:
			return false
		}
	}
	mine, others := Books{Schema: Schema, Rollout: "r1", Told: 1}, Books{Schema: Schema, Rollout: "r1", Told: 2}
	textOf := func(b Books) string {
		text, err := encode(b)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	view := func(b Books, revision int64) etcdkv.View {
		return etcdkv.View{Revision: revision, Values: map[string]etcdkv.Value{
			k.books(): {Data: []byte(textOf(b)), ModRevision: revision, CreateRevision: 2},
		}}
	}
	begin := func() *term {
		tm := &term{Controller: &Controller{store: store{keys: k}}, bell: make(chan struct{}, 1)}
		tm.receive(etcdkv.View{Revision: 5})
		if !rung(tm) {
			t.Fatal("the first view does not ring")
		}
		tm.writes(&mine, textOf(mine))
		return tm
	}
	wrote := func(tm *term) {
		tm.wrote(6, func(s *standing) { s.books.value, s.books.mod = &mine, 6 })
	}

	late := begin()
	wrote(late)
	late.receive(view(mine, 6))
	if rung(late) || late.at.books.value != &mine {
		t.Error("the watch is later than the answer, and the books are read again or it rings")
	}
	late.receive(view(others, 7))
	if !rung(late) || late.at.books.value.Told != others.Told {
		t.Errorf("what others write is not heard: %+v", late.at.books.value)
	}

	early := begin()
	early.receive(view(mine, 6))
	wrote(early)
	if b := early.at.books; b.value != &mine || b.mod != 6 || b.err != nil {
		t.Errorf("the watch is faster than the answer, and the books are read again: %+v", b)
	}
}
