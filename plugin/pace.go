package plugin

import (
	"sync"
	"time"
)

// pace makes the readers of one plugin's output as slow as they have to be.
type pace struct {
	lifted chan struct{}
	once   sync.Once

	mu   sync.Mutex
	left float64 // of the burst; negative is owed
	at   time.Time
}

func newPace() *pace {
	return &pace{lifted: make(chan struct{}), left: paceBurst, at: time.Now()}
}

// spend accounts n bytes and waits until they are allowed.
func (p *pace) spend(n int) {
	wait := p.owe(n, time.Now())
	if wait <= 0 {
		return
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-p.lifted:
	}
}

// owe returns how long n bytes must wait at the time now.
func (p *pace) owe(n int, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left = min(p.left+now.Sub(p.at).Seconds()*paceBytes, paceBurst) - float64(n)
	p.at = now
	return time.Duration(-p.left / paceBytes * float64(time.Second))
}

// lift ends all waiting, for good.
func (p *pace) lift() { p.once.Do(func() { close(p.lifted) }) }
