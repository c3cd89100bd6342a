package config

import (
	"fmt"
	"regexp"

	"go.yaml.in/yaml/v3"
)

// standIn is what Redaction and Secret print in place of a value.
//
//nolint:gochecknoglobals // compiled once, never written
var standIn = regexp.MustCompile(`^\((secret|hidden)( [0-9a-f]{8})?\)$`)

// notShown refuses a document that was printed without its secrets: published,
// it would put the stand-ins in their place for every agent.
func (t *tree) notShown() error {
	if n := findStandIn(t.root, maxDepth+2); n != nil {
		return fmt.Errorf("line %d, column %d: %s stands for a value that was not shown: want the value itself", n.Line, n.Column, n.Value)
	}
	return nil
}

// findStandIn looks at what is written, and so not behind aliases.
func findStandIn(n *yaml.Node, depth int) *yaml.Node {
	if n == nil || depth == 0 {
		return nil
	}
	if n.Kind == yaml.ScalarNode && standIn.MatchString(n.Value) {
		return n
	}
	for _, part := range n.Content {
		if found := findStandIn(part, depth-1); found != nil {
			return found
		}
	}
	return nil
}
