package upgrade

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// roleVariable names what a copy of the test binary is to be instead of a
// test: see roles.
const roleVariable = "PERENNIAL_TEST_ROLE"

// roles are the programs that the test binary can be, so that tests work
// with real processes.
func roles() map[string]func() error {
	return map[string]func() error{
		"agent": testAgent,
	}
}

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		if err := roles()[role](); err != nil {
			fmt.Fprintln(os.Stderr, role+":", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}
