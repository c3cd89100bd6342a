package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"go.yaml.in/yaml/v3"
)

// Limits of one document, far above what a configuration needs and far below
// what would hurt.
const (
	// DefaultMaxBytes bounds a document's size unless Config.MaxBytes says
	// otherwise. etcd's own limit is 1.5 MiB a request.
	DefaultMaxBytes = 1 << 20
	maxDepth        = 64
	maxNodes        = 100_000
)

// parse reads a document, which is a mapping, YAML or JSON, within the
// limits. Aliases are expanded here and not by the YAML package so that what
// they expand to counts.
func parse(document []byte, maxBytes int) (map[string]any, error) {
	if len(document) > maxBytes {
		return nil, fmt.Errorf("it has %d bytes: want at most %d", len(document), maxBytes)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(document))
	var root yaml.Node
	if err := decoder.Decode(&root); errors.Is(err, io.EOF) {
		return nil, errors.New("it is empty: want a mapping, such as {}")
	} else if err != nil {
		return nil, err
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the first YAML document: want one document")
	}
	if root.Kind != yaml.DocumentNode || len(root.Content) != 1 {
		return nil, errors.New("want one YAML document")
	}
	p := parser{nodes: maxNodes}
	v, err := p.value(root.Content[0], 0)
	if err != nil {
		return nil, err
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("it is %s: want a mapping of names to values", kindName(v))
	}
	return m, nil
}

// parser turns YAML nodes into maps, lists and scalars.
type parser struct {
	nodes int // how many more may be made
}

func (p *parser) value(n *yaml.Node, depth int) (any, error) {
	if p.nodes--; p.nodes < 0 {
		return nil, fmt.Errorf("more than %d values once aliases are expanded", maxNodes)
	}
	if depth > maxDepth {
		return nil, fmt.Errorf("line %d: nested more than %d deep", n.Line, maxDepth)
	}
	switch n.Kind {
	case yaml.AliasNode:
		return p.value(n.Alias, depth+1)
	case yaml.SequenceNode:
		list := make([]any, 0, min(len(n.Content), maxNodes))
		for _, item := range n.Content {
			v, err := p.value(item, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	case yaml.MappingNode:
		return p.mapping(n, depth)
	case yaml.ScalarNode:
		return scalar(n)
	default:
		return nil, fmt.Errorf("line %d: not a value", n.Line)
	}
}

func (p *parser) mapping(n *yaml.Node, depth int) (map[string]any, error) {
	m := make(map[string]any, min(len(n.Content)/2, maxNodes))
	var inherited []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, content := n.Content[i], n.Content[i+1]
		for key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		if key.Kind != yaml.ScalarNode {
			return nil, fmt.Errorf("line %d: a key is a list or a mapping: want a name", key.Line)
		}
		if key.ShortTag() == "!!merge" {
			inherited = append(inherited, content)
			continue
		}
		if _, twice := m[key.Value]; twice {
			return nil, fmt.Errorf("line %d: %q is given twice", key.Line, key.Value)
		}
		v, err := p.value(content, depth+1)
		if err != nil {
			return nil, err
		}
		m[key.Value] = v
	}
	for _, from := range inherited {
		if err := p.inherit(m, from, depth); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// inherit does what "<<" asks for: it adds what m does not have.
func (p *parser) inherit(m map[string]any, from *yaml.Node, depth int) error {
	v, err := p.value(from, depth+1)
	if err != nil {
		return err
	}
	bases, ok := v.([]any)
	if !ok {
		bases = []any{v}
	}
	for _, base := range bases {
		mapping, ok := base.(map[string]any)
		if !ok {
			return fmt.Errorf("line %d: << is followed by %s: want a mapping or a list of mappings", from.Line, kindName(base))
		}
		for k, v := range mapping {
			if _, own := m[k]; !own {
				m[k] = v
			}
		}
	}
	return nil
}

func scalar(n *yaml.Node) (any, error) {
	// A date stays the text that was written: the field's type decides.
	if n.ShortTag() == "!!timestamp" {
		return n.Value, nil
	}
	var v any
	if n.Decode(&v) != nil { // its error quotes the value
		return nil, fmt.Errorf("line %d: the value is no %s", n.Line, n.ShortTag())
	}
	switch v.(type) {
	case nil, bool, int, int64, uint64, float64, string:
		return v, nil
	default:
		return nil, fmt.Errorf("line %d: tag %s is not supported", n.Line, n.ShortTag())
	}
}

func kindName(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case map[string]any:
		return "a mapping"
	case []any:
		return "a list"
	default:
		return "a single value"
	}
}
