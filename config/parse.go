package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Limits of one document, far above what a configuration needs and far below
// what would hurt.
const (
	// DefaultMaxBytes bounds a document's size unless Config.MaxBytes says
	// otherwise: what etcd takes in one request unless it was told otherwise,
	// 1.5 MiB, less 4 KiB for the key and the transaction around it.
	DefaultMaxBytes = 3<<19 - 4<<10
	maxDepth        = 64
	maxNodes        = 100_000
)

// tree is a document that was read.
type tree struct {
	values map[string]any
	root   *yaml.Node // for the positions; nil = has none
	// variables are what the values are from in the environment, by path.
	variables map[string]string
}

// parse reads a document, which is a mapping, YAML or JSON, within the
// limits. Aliases are expanded here and not by the YAML package so that what
// they expand to counts.
func parse(document []byte, maxBytes int) (*tree, error) {
	v, root, err := parseValue(document, maxBytes)
	if err != nil {
		return nil, err
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("it is %s: want a mapping of names to values", kindName(v))
	}
	return &tree{values: m, root: root}, nil
}

// parseValue reads a document that may be any value.
func parseValue(document []byte, maxBytes int) (any, *yaml.Node, error) {
	if len(document) > maxBytes {
		return nil, nil, fmt.Errorf("it has %d bytes: want at most %d", len(document), maxBytes)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(document))
	var root yaml.Node
	if err := decoder.Decode(&root); errors.Is(err, io.EOF) {
		return nil, nil, errors.New("it is empty: want a mapping, such as {}")
	} else if err != nil {
		if strings.Contains(err.Error(), "unknown anchor") { // quotes it: it may be a password
			err = errors.New("a value begins with * and names no anchor: put quotes around it")
		}
		return nil, nil, err
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, nil, errors.New("something follows the first YAML document: want one document")
	}
	if root.Kind != yaml.DocumentNode || len(root.Content) != 1 {
		return nil, nil, errors.New("want one YAML document")
	}
	p := parser{nodes: maxNodes}
	v, err := p.value(root.Content[0], 0)
	return v, root.Content[0], err
}

// parser turns YAML nodes into maps, lists and scalars.
type parser struct {
	nodes int    // how many more may be made
	path  []step // to the value at hand
}

// step is one step of a path: it becomes text only where something is wrong.
type step struct {
	name  string
	index int // if name is empty
}

// wrong is an error that names where n is.
func (p *parser) wrong(n *yaml.Node, format string, args ...any) error {
	path := ""
	for _, s := range p.path {
		if s.name == "" {
			path += fmt.Sprintf("[%d]", s.index)
		} else {
			path = join(path, s.name)
		}
	}
	return fault{path: path, reason: fmt.Sprintf(format, args...), line: n.Line, column: n.Column}
}

// below reads the value at one step further down the path.
func (p *parser) below(s step, n *yaml.Node, depth int) (any, error) {
	p.path = append(p.path, s)
	v, err := p.value(n, depth+1)
	p.path = p.path[:len(p.path)-1]
	return v, err
}

func (p *parser) value(n *yaml.Node, depth int) (any, error) {
	if p.nodes--; p.nodes < 0 {
		return nil, fmt.Errorf("more than %d values once aliases are expanded", maxNodes)
	}
	if depth > maxDepth {
		return nil, fmt.Errorf("line %d, column %d: nested more than %d deep", n.Line, n.Column, maxDepth)
	}
	switch n.Kind {
	case yaml.AliasNode:
		return p.value(n.Alias, depth+1)
	case yaml.SequenceNode:
		list := make([]any, 0, min(len(n.Content), maxNodes))
		for i, item := range n.Content {
			v, err := p.below(step{index: i}, item, depth)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	case yaml.MappingNode:
		return p.mapping(n, depth)
	case yaml.ScalarNode:
		return p.scalar(n)
	default:
		return nil, p.wrong(n, "not a value")
	}
}

func (p *parser) mapping(n *yaml.Node, depth int) (map[string]any, error) {
	m := make(map[string]any, min(len(n.Content)/2, maxNodes))
	var inherited []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		written, content := n.Content[i], n.Content[i+1]
		key := target(written)
		if key.Kind != yaml.ScalarNode {
			return nil, p.wrong(written, "a key is a list or a mapping: want a name")
		}
		if isMerge(key) {
			inherited = append(inherited, content)
			continue
		}
		if _, twice := m[key.Value]; twice {
			return nil, p.wrong(written, "%q is given twice", key.Value)
		}
		v, err := p.below(step{name: key.Value}, content, depth)
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
			return p.wrong(from, "<< is followed by %s: want a mapping or a list of mappings", kindName(base))
		}
		for k, v := range mapping {
			if _, own := m[k]; !own {
				m[k] = v
			}
		}
	}
	return nil
}

func (p *parser) scalar(n *yaml.Node) (any, error) {
	switch n.ShortTag() {
	case "!!timestamp": // the field's type decides
		return n.Value, nil
	case "!!null", "!!bool", "!!int", "!!float", "!!str":
	default: // which may be a password that begins with !
		return nil, p.wrong(n, "its tag is not supported: put quotes around a value that begins with !")
	}
	var v any
	if n.Decode(&v) != nil { // its error quotes the value
		return nil, p.wrong(n, "the value is no %s", n.ShortTag())
	}
	return v, nil
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
