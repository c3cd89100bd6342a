package agent

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// Severity says how bad it is with a part of an agent. The zero value is well.
type Severity string

// The severities, from the best to the worst.
const (
	// SeverityOK: nothing is wrong.
	SeverityOK Severity = ""
	// SeverityWarning: it works, and somebody should look.
	SeverityWarning Severity = "warning"
	// SeverityUnknown: nobody can tell, since nothing that can be read was told.
	SeverityUnknown Severity = "unknown"
	// SeverityCritical: it does not do what it is there for.
	SeverityCritical Severity = "critical"
)

// String is "ok" for the zero value.
func (s Severity) String() string {
	if s == SeverityOK {
		return "ok"
	}
	return string(s)
}

// Compare is below 0 if s is better than other, above 0 if it is worse. What
// only a newer release knows counts as unknown.
func (s Severity) Compare(other Severity) int { return cmp.Compare(s.rank(), other.rank()) }

func (s Severity) rank() int {
	switch s {
	case SeverityOK, "ok":
		return 0
	case SeverityWarning:
		return 1
	case SeverityCritical:
		return 3
	case SeverityUnknown:
	}
	return 2
}

// Node is a part of an agent: how it is, why, and since when. The root is the
// agent, below it are its registration, config, upgrade, checks, indicators and
// plugins, and below these each of them.
type Node struct { //nolint:recvcheck // String is asked of values
	Name string `json:"name"`
	// Severity is that of the worst of the node and what is below it.
	Severity Severity `json:"severity,omitempty"`
	State    string   `json:"state,omitempty"`
	Reason   string   `json:"reason,omitempty"`
	// Since is when State began; zero where that is not known.
	Since    time.Time `json:"since,omitzero"`
	Children []Node    `json:"children,omitempty"`
	// LeftOut counts the children that are not told, for want of room. None of
	// them is worse than those that are.
	LeftOut int `json:"left_out,omitempty"`
}

// maxTreeDepth is how deep a tree is shown: that of another agent comes from etcd.
const maxTreeDepth = 8

// Child is the child called name; nil = there is none.
func (n *Node) Child(name string) *Node {
	for i := range n.Children {
		if n.Children[i].Name == name {
			return &n.Children[i]
		}
	}
	return nil
}

// Worst is the worst that is wrong, in one line such as "plugins/logtail
// quarantined: died 5 times in 10m0s"; "" if all is well.
func (n *Node) Worst() string {
	if n.Severity.rank() == 0 {
		return ""
	}
	var path []string
	worst := n
	for range maxTreeDepth {
		i := slices.IndexFunc(worst.Children, func(c Node) bool { return c.Severity.Compare(worst.Severity) >= 0 })
		if i < 0 {
			break
		}
		worst = &worst.Children[i]
		path = append(path, worst.Name)
	}
	text := strings.TrimSpace(strings.Join(path, "/") + " " + worst.State)
	if worst.Reason != "" {
		text += ": " + worst.Reason
	}
	return strings.ReplaceAll(text, "\n", " ")
}

// add appends a child, whose severity the node takes on if it is worse than its own.
func (n *Node) add(child Node) {
	n.Children = append(n.Children, child)
	n.worsen(child.Severity)
}

func (n *Node) worsen(s Severity) {
	if s.Compare(n.Severity) > 0 {
		n.Severity = s
	}
}

// worstFirst sorts nodes, those of the same severity by name.
func worstFirst(all []Node) {
	slices.SortStableFunc(all, func(a, b Node) int {
		return cmp.Or(b.Severity.Compare(a.Severity), strings.Compare(a.Name, b.Name))
	})
}
