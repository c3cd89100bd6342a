package config

import (
	"errors"
	"testing"
)

// TestALayerThatIsKnownIsStillWhatWasWritten: neither does what the program
// makes of a configuration show in the next, nor is a place in it forgotten.
func TestALayerThatIsKnownIsStillWhatWasWritten(t *testing.T) {
	type free struct {
		List []any
		Max  int
		Size int
	}
	s, err := New(Config[free]{Validate: func(f *free) error {
		if f.Size > f.Max {
			return errors.New("max: less than size")
		}
		f.List[0].(map[string]any)["seen"] = f.Size
		f.List[0].(map[string]any)["times"] = len(f.List[0].(map[string]any))
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	known := readings{}
	docs := func(size string) []document {
		return []document{{Key: "global", Data: []byte("list: [{}]\n\nmax: 5\n")}, {Key: "agent", Revision: 9, Data: []byte("size: " + size)}}
	}
	for _, size := range []string{"1", "2"} {
		c, bad := s.build(docs(size), known)
		if bad != nil {
			t.Fatal(bad)
		}
		if n := valueOf[free](c).List[0].(map[string]any)["times"]; n != 1 {
			t.Errorf("size %s: the configuration before shows in it: %v", size, n)
		}
	}
	if len(known) != 2 || known["global"].tree.root != nil {
		t.Errorf("known: %v", known)
	}
	_, bad := s.build(docs("6"), known)
	if bad == nil || bad.Key != "global" || bad.Reason != "line 3, column 1: max: less than size" {
		t.Errorf("got %+v", bad)
	}
	if _, bad = s.build(docs("[]"), known); bad == nil || bad.Key != "agent" || bad.Reason != "line 1, column 1: size: want int, found a list" {
		t.Errorf("got %+v", bad)
	}
}

// TestASingleDocumentIsCheckedAsOneOfSeveralIs: it is decoded once only.
func TestASingleDocumentIsCheckedAsOneOfSeveralIs(t *testing.T) {
	s, err := New(Config[parts]{})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"a: x", "b: 1\na: [1]\nother: {}", "other: null", "a: null", "a: 1.5", "[]", "c: 1"} {
		doc := document{Key: "global", Revision: 1, Data: []byte(text)}
		_, alone := s.build([]document{doc}, readings{})
		_, beside := s.build([]document{{Key: "file", Data: []byte("{}")}, doc}, nil)
		if (alone == nil) != (beside == nil) {
			t.Fatalf("%q: %v alone, %v beside another", text, alone, beside)
		}
		if alone != nil && (alone.Key != beside.Key || alone.Reason != beside.Reason) {
			t.Errorf("%q: %v alone, %v beside another", text, alone, beside)
		}
	}
}
