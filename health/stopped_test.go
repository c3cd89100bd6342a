package health

import (
	"testing"
	"time"
)

func TestProcessThatStoodStillIsNotTakenForADeadlock(t *testing.T) {
	p := &Pulse{within: 40 * time.Second, every: 10 * time.Second}
	now := time.Now()
	for range 3 {
		p.Beat()
		if err := p.ask(true, now); err != nil {
			t.Fatal(err)
		}
		now = now.Add(10 * time.Second)
	}
	now = now.Add(time.Hour) // SIGSTOP, or a laptop's lid
	if err := p.ask(true, now); err != nil {
		t.Errorf("after an hour in which nothing ran: %v", err)
	}
	for range 2 {
		now = now.Add(10 * time.Second)
		if err := p.ask(true, now); err != nil {
			t.Errorf("before the loop had its time: %v", err)
		}
	}
	if err := p.ask(true, now.Add(10*time.Second)); err == nil {
		t.Error("a loop that stays silent after the hour is live")
	}
}
