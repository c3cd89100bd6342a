//go:build bench_heavy

package main

// With this tag the server links what agentd links, and uses none of it: the
// difference to the server without it is what the size of a program costs at
// its start, whatever upgrades it.
import (
	_ "github.com/spf13/cobra"

	_ "github.com/perennial-go/perennial/agent"
	_ "github.com/perennial-go/perennial/examples/internal/etcdserver"
)
