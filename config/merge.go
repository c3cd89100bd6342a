package config

// merge lays over on top of base, which it may change, and returns the
// result: mappings deeply, anything else replaced, null takes away. Nothing in
// it is shared with over.
func merge(base, over map[string]any) map[string]any {
	if base == nil {
		base = make(map[string]any, len(over))
	}
	for k, v := range over {
		switch v := v.(type) {
		case nil:
			delete(base, k)
		case map[string]any:
			// Merging into an empty map copies v and drops the nulls in it.
			below, _ := base[k].(map[string]any)
			base[k] = merge(below, v)
		default:
			base[k] = copied(v)
		}
	}
	return base
}

// copied is v, as parse returns it, with lists and mappings of its own.
func copied(v any) any {
	switch v := v.(type) {
	case []any:
		list := make([]any, len(v))
		for i, below := range v {
			list[i] = copied(below)
		}
		return list
	case map[string]any:
		m := make(map[string]any, len(v))
		for k, below := range v {
			m[k] = copied(below)
		}
		return m
	default:
		return v
	}
}
