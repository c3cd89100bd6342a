package openfiles

import (
	"os"
	"strconv"
	"testing"
)

func TestEveryDescriptorCounts(t *testing.T) {
	before, err := Count("self")
	if err != nil || before < 3 {
		t.Fatalf("%d, %v", before, err)
	}
	for range 10 {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		defer w.Close()
	}
	after, err := Count(strconv.Itoa(os.Getpid()))
	if err != nil || after != before+20 {
		t.Errorf("%d descriptors and %v after 20 more than %d were opened", after, err, before)
	}
	if limit, err := Limit(); err != nil || limit < uint64(after) {
		t.Errorf("the limit is %d, %v, with %d open", limit, err, after)
	}
}
