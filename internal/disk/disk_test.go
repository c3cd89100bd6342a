package disk

import (
	"errors"
	"math"
	"strings"
	"testing"
)

func TestRoomThatIsMissingIsNamed(t *testing.T) {
	dir := t.TempDir()
	if err := Check(dir, 1); err != nil {
		t.Fatal(err)
	}
	err := Check(dir, math.MaxInt64)
	if !errors.Is(err, ErrNoSpace) || !strings.Contains(err.Error(), dir) {
		t.Errorf("%v, want ErrNoSpace that names %s", err, dir)
	}
}
