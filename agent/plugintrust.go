package agent

import (
	"errors"
	"fmt"

	"github.com/perennial-go/perennial/plugin"
	"github.com/perennial-go/perennial/upgrade/release"
)

// verifyPlugin checks the signature of a plugin's manifest by the keys that may
// sign releases. That a key was revoked is also said of what runs already: it
// may be another's work. Any other error keeps files from being used and stops
// nothing; a trust state that cannot be read must not end every plugin.
func (a *Agent) verifyPlugin(manifest, signature []byte) (keyID string, err error) {
	keyID, err = a.upgrader.VerifyDocument(manifest, signature)
	if errors.Is(err, release.ErrRevoked) {
		err = fmt.Errorf("%w: %w", plugin.ErrUntrusted, err)
	}
	return keyID, err
}
