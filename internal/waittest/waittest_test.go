package waittest

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"
)

// recorder is a test that is expected to fail.
type recorder struct {
	testing.TB
	message string
}

func (r *recorder) Helper() {}

func (r *recorder) Fatalf(format string, args ...any) {
	r.message = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func TestWaitThatIsInVainEndsTheTestAndSaysWhy(t *testing.T) {
	r := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		wait(r, 10*time.Millisecond, "the door opens", func() error { return errors.New("it is locked") })
	}()
	<-done
	for _, want := range []string{"10ms", "the door opens", "it is locked"} {
		if !strings.Contains(r.message, want) {
			t.Errorf("the message %q lacks %q", r.message, want)
		}
	}
}

func TestWaitEndsWhenTheConditionHolds(t *testing.T) {
	looks := 0
	Until(t, "the third look", func() bool { looks++; return looks == 3 })
	if looks != 3 {
		t.Errorf("%d looks", looks)
	}
	c := make(chan int, 1)
	c <- 7
	if got := Next(t, "a number", c); got != 7 {
		t.Errorf("received %d", got)
	}
}
