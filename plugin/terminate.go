package plugin

// terminate asks the process to end.
func (p *process) terminate() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.started && !p.reaped {
		terminateGroup(p.cmd.Process)
	}
}
