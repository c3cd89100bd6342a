package config

import (
	"fmt"
	"strings"
	"testing"
)

// BenchmarkChange is what a change of one of three documents costs an agent
// whose program has nothing to do for it.
func BenchmarkChange(b *testing.B) {
	type text struct {
		Number int
		Text   string
	}
	for _, layers := range []int{1, 3} {
		b.Run(fmt.Sprintf("layers=%d", layers), func(b *testing.B) {
			s, err := New(Config[text]{})
			if err != nil {
				b.Fatal(err)
			}
			r := &runner[text]{Store: s, keeper: &keeper{}, known: readings{}}
			docs := make([]document, layers)
			for i := range docs {
				docs[i] = document{Key: fmt.Sprint(i), Revision: 1, Data: fmt.Appendf(nil, "number: 0\ntext: %s\n", strings.Repeat("x", 1000))}
			}
			n := 0
			for b.Loop() {
				n++
				next := append([]document(nil), docs...)
				next[0] = document{Key: "0", Revision: int64(n), Data: fmt.Appendf(nil, "number: %d\ntext: %s\n", n, strings.Repeat("x", 1000))}
				r.heard(view{documents: next})
				if err := r.apply(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
