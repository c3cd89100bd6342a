package upgrade

import "errors"

// remedy says what to do about a state directory that cannot be written: to mount it
// for that where it is read-only, else what is given.
func remedy(err error, otherwise string) string {
	if errors.Is(err, errReadOnly) {
		return "it is mounted read-only: mount it so that it can be written"
	}
	return otherwise
}
