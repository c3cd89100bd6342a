package agent

import (
	"bytes"
	"encoding/json"
	"testing"
)

// TestFingerprintIsStillReadAndSelectsAgents: selectors of plans and tasks go by it.
func TestFingerprintIsStillReadAndSelectsAgents(t *testing.T) {
	data := bytes.TrimSpace(golden(t, "registration-1-fingerprint.json"))
	var r Registration
	if err := decode("registration", data, &r); err != nil {
		t.Fatal(err)
	}
	if now, err := json.Marshal(r); err != nil || !bytes.Equal(now, data) {
		t.Errorf("it is now written as %s (%v)", now, err)
	}
	with, without := &Entry{Registration: r}, &Entry{Registration: Registration{ID: "a2"}}
	for _, text := range []string{
		".container=docker", ".image=registry.example/*", ".kernel=6.1.*", `.libc="glibc 2.36"`, ".orchestrator in (nomad,ecs)",
		`.os="debian 12"`, ".runtime=docker/24.*", ".runtime!=podman/4.3.1,.container",
	} {
		s, err := ParseSelector(text)
		if err != nil {
			t.Fatal(err)
		}
		if !s.Matches(with) || s.Matches(without) {
			t.Errorf("%s: %v of the agent that runs there, %v of one that tells nothing", text, s.Matches(with), s.Matches(without))
		}
	}
}
