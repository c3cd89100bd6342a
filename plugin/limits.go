package plugin

// Limits bound what a plugin may use. 0 means no limit of its own.
type Limits struct {
	// MemoryBytes bounds the memory of the plugin and all its descendants.
	MemoryBytes int64
	// CPU bounds their processor time, in cores: 0.5 is half of one.
	CPU float64
	// Processes bounds how many processes and threads they are.
	Processes int
	// Files bounds the open descriptors of each process.
	Files int
}
