package agent

// runningExecutable opens the very file that this process was started from, also
// once another lies in its place.
const runningExecutable = "/proc/self/exe"
