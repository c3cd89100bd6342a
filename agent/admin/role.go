package admin

import "fmt"

// Role is what somebody may do. The zero Role is nobody's: it may nothing.
type Role int8

// The roles; each may what those before it may.
const (
	None Role = iota
	// Probe may ask whether the agent lives and is ready: bare answers.
	Probe
	// Read may see the inside: reasons, status, metrics, alerts.
	Read
	// Operate may do what costs or shows more: profiles and diagnoses, which
	// hold parts of the process's memory, and what an author adds.
	Operate
)

func roleNames() []string { return []string{"none", "probe", "read", "operate"} }

func (r Role) String() string {
	if r < None || r > Operate {
		return fmt.Sprintf("role %d", int8(r))
	}
	return roleNames()[r]
}

// ParseRole knows "probe", "read" and "operate".
func ParseRole(name string) (Role, error) {
	for i, known := range roleNames() {
		if name == known && i > 0 {
			return Role(i), nil
		}
	}
	return None, fmt.Errorf("role %.40q: want probe, read or operate", name)
}
