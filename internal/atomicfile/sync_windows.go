package atomicfile

// SyncDir does nothing: Windows has no fsync of a directory, NTFS journals
// the entry itself.
func SyncDir(string) error { return nil }
