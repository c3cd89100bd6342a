package config

// Parsed is a document as agents read it, before it is laid over others.
type Parsed struct{ tree *tree }

// Parse reads a document within the limits that agents have by default. Its
// errors name the line.
func Parse(document []byte) (*Parsed, error) {
	t, err := parse(document, DefaultMaxBytes)
	if err != nil {
		return nil, err
	}
	return &Parsed{t}, nil
}

// Values are what the document says: mappings, lists, texts, numbers (int,
// int64, uint64, float64), true, false, and null, which takes away. They are
// not to be modified.
func (p *Parsed) Values() map[string]any { return p.tree.values }

// Position is where the value at path, which is as in error messages
// (a.b[2].c), begins, counted from 1; not ok where the document has none.
func (p *Parsed) Position(path string) (line, column int, ok bool) { return p.tree.at(path) }
