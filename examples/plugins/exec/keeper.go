package main

// keeperArg makes this program the keeper of one command.
const keeperArg = "keep"

// isKeeper reports whether the arguments are those of a keeper.
func isKeeper(args []string) bool { return len(args) == 2 && args[1] == keeperArg }

// order is what a keeper is told, as JSON, on its descriptor orderFile. The
// descriptor's end means that the command is to end.
type order struct {
	Argv        []string `json:"argv"`
	Env         []string `json:"env"`
	Dir         string   `json:"dir"`
	Account     *account `json:"account,omitempty"`
	GraceMillis int64    `json:"grace_ms"`
}

// report is what a keeper says at the end, as JSON, on its descriptor
// reportFile.
type report struct {
	ExitCode *int   `json:"exit_code,omitempty"`
	Signal   string `json:"signal,omitempty"`
	// Ended is whether the keeper was told to end it while it ran.
	Ended bool   `json:"ended,omitempty"`
	Error string `json:"error,omitempty"`
}
