package ownership

// Check has nothing to say here: files inherit the directory's rights.
func Check(string) error { return nil }
