package upgrade

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/perennial-go/perennial/internal/reexec"
)

// agentVariable makes a copy of the test binary a test agent, which it
// configures, so that tests work with real processes.
const agentVariable = "PERENNIAL_TEST_AGENT"

func TestMain(m *testing.M) {
	if os.Getenv(agentVariable) != "" {
		if err := testAgent(); err != nil {
			fmt.Fprintln(os.Stderr, "agent:", err)
			if exit, ok := errors.AsType[*ExitError](err); ok {
				os.Exit(exit.Code)
			}
			os.Exit(1)
		}
		os.Exit(0)
	}
	if err := reexec.ExitAtOnce(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}
