package config

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"go.yaml.in/yaml/v3"
)

// Redaction hides what is not for every eye. A value is hidden as "(secret)"
// where any of the schemas says that it is one, and as "(hidden)" where none
// of them knows the field: with no schema at all that is every value.
type Redaction struct {
	Schemas []*Schema
	// Off hides nothing.
	Off bool
	// Key, if set, adds 8 hex digits to what takes a hidden value's place that
	// are the same for the same value: their HMAC. They tell whether two
	// values differ to those who see both made with one key. Choose it at
	// random, and forget it.
	Key []byte
}

// Document returns the document, in YAML or JSON, with its values hidden. One
// without hidden values is returned as it is; else comments stay, and
// indentation may change. A hidden value is also hidden where an alias brings
// it in elsewhere. It fails for what is no document.
func (r Redaction) Document(document []byte) ([]byte, error) {
	shown, _, err := r.document(document)
	return shown, err
}

// document also returns the texts that it has hidden.
func (r Redaction) document(document []byte) (shown []byte, hidden []string, err error) {
	if r.Off {
		return document, nil, nil
	}
	t, err := parse(document, DefaultMaxBytes)
	if err != nil {
		return nil, nil, err
	}
	h := hider{Redaction: r, hidden: map[*yaml.Node]bool{}}
	if err := h.node(t.root, roots(r.Schemas), true, 0); err != nil {
		return nil, nil, err
	}
	if len(h.hidden) == 0 {
		return document, nil, nil
	}
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := encoder.Encode(t.root); err != nil {
		return nil, nil, err
	}
	return out.Bytes(), h.texts, encoder.Close()
}

// hider hides in place.
type hider struct {
	Redaction
	hidden map[*yaml.Node]bool
	texts  []string
}

// stand is what takes the place of a hidden value.
func (r Redaction) stand(value any, secret bool) string {
	text := "hidden"
	if secret {
		text = "secret"
	}
	if r.Key != nil {
		data, err := json.Marshal(value)
		if err != nil {
			data = fmt.Append(nil, value) // a float that JSON does not have
		}
		mac := hmac.New(sha256.New, r.Key)
		_, _ = mac.Write(data) // never fails
		text += " " + hex.EncodeToString(mac.Sum(nil)[:4])
	}
	return "(" + text + ")"
}

// node hides below n, which parse has accepted: it walks no more nodes than
// that did. The root itself is never hidden.
func (h *hider) node(n *yaml.Node, at places, root bool, depth int) error {
	n = target(n)
	if depth > maxDepth || n.ShortTag() == "!!null" {
		return nil
	}
	if secret := at.secret(); secret || len(at) == 0 && !root {
		return h.hide(n, secret)
	}
	switch n.Kind {
	default: // a single value that may be seen
	case yaml.SequenceNode:
		for _, item := range n.Content {
			if err := h.node(item, at.items(), false, depth+1); err != nil {
				return err
			}
		}
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, value := target(n.Content[i]), n.Content[i+1]
			var err error
			if isMerge(key) {
				err = h.inherited(value, at, root, depth)
			} else {
				err = h.node(value, at.field(key.Value), false, depth+1)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// inherited hides in what << brings in, as if it were written there.
func (h *hider) inherited(from *yaml.Node, at places, root bool, depth int) error {
	bases := []*yaml.Node{from}
	if list := target(from); list.Kind == yaml.SequenceNode {
		bases = list.Content
	}
	for _, base := range bases {
		if err := h.node(base, at, root, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (h *hider) hide(n *yaml.Node, secret bool) error {
	if h.hidden[n] {
		return nil // by way of another alias
	}
	p := parser{nodes: maxNodes}
	value, err := p.value(n, 0)
	if err != nil {
		return err
	}
	h.hidden[n] = true
	h.texts = append(h.texts, textsIn(value)...)
	n.Kind, n.Tag, n.Style = yaml.ScalarNode, "!!str", yaml.DoubleQuotedStyle
	n.Value, n.Content = h.stand(value, secret), nil
	return nil
}

// textsIn are the strings in value, which is as parse returns it. Those that are
// too short would be found in every word.
func textsIn(value any) (texts []string) {
	switch v := value.(type) {
	case string:
		if len(v) >= leastSecret {
			texts = append(texts, v)
		}
	case map[string]any:
		for _, below := range v {
			texts = append(texts, textsIn(below)...)
		}
	case []any:
		for _, below := range v {
			texts = append(texts, textsIn(below)...)
		}
	}
	return texts
}

// value is v, which is as parse returns it, with what is to be hidden below
// it hidden. v is not changed.
func (r Redaction) value(v any, at places) any {
	if r.Off {
		return v
	}
	secret := at.secret()
	switch v := v.(type) {
	case nil:
		return nil
	case map[string]any:
		if secret || len(at) == 0 {
			break
		}
		m := make(map[string]any, len(v))
		for name, below := range v {
			m[name] = r.value(below, at.field(name))
		}
		return m
	case []any:
		if secret || len(at) == 0 {
			break
		}
		list := make([]any, len(v))
		for i, below := range v {
			list[i] = r.value(below, at.items())
		}
		return list
	}
	if secret || len(at) == 0 {
		return r.stand(v, secret)
	}
	return v
}
