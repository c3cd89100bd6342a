package config

// merge lays over on top of base, which it may change, and returns the
// result: mappings deeply, anything else replaced, null takes away.
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
			base[k] = v
		}
	}
	return base
}
