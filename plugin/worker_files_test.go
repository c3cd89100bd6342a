package plugin

import (
	"errors"
	"testing"
)

func TestNewerFindingDoesNotHideThatAPluginMustStop(t *testing.T) {
	w := &worker{findings: make(chan finding, 1)}
	w.offer(finding{problem: errors.New("revoked"), withdrawn: true})
	w.offer(finding{problem: errors.New("looked at again")})
	if f := <-w.findings; !f.withdrawn {
		t.Error("the plugin would run on")
	}
	w.offer(finding{problem: errors.New("revoked"), withdrawn: true})
	w.offer(finding{bundle: &bundle{}})
	if f := <-w.findings; f.withdrawn {
		t.Error("a plugin that is good again would be stopped")
	}
}
