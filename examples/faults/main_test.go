package faults

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/perennial-go/perennial/internal/reexec"
)

// agentVariable has the setup of an agent; a process without it runs the
// tests.
const agentVariable = "PERENNIAL_FAULTS_AGENT"

func TestMain(m *testing.M) {
	text, isAgent := os.LookupEnv(agentVariable)
	if !isAgent {
		if err := reexec.ExitAtOnce(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		goleak.VerifyTestMain(m)
	}
	var s setup
	err := json.Unmarshal([]byte(text), &s)
	if err == nil {
		err = s.run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "agent:", err)
		os.Exit(1)
	}
	os.Exit(0)
}
