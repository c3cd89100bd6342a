package cosign

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/perennial-go/perennial/internal/strictjson"
)

// payload is the "simple signing" document that the older form signs.
type payload struct {
	Critical critical       `json:"critical"`
	Optional map[string]any `json:"optional"`
}

type critical struct {
	Identity struct {
		Reference string `json:"docker-reference"`
	} `json:"identity"`
	Image struct {
		Digest string `json:"docker-manifest-digest"`
	} `json:"image"`
	Type string `json:"type"`
}

// VerifyPayload checks the older form: signature is what is annotated under
// AnnotationSignature. Its error wraps ErrSignature.
func (k *PublicKey) VerifyPayload(raw []byte, signature string, want Subject) error {
	if len(raw) > MaxPayloadSize {
		return refuse("the payload has %d bytes, at most %d are read", len(raw), MaxPayloadSize)
	}
	if err := k.verify(raw, signature); err != nil {
		return err
	}
	var p payload
	if err := decode(raw, &p); err != nil {
		return refuse("the payload: %w", err)
	}
	if p.Critical.Type != payloadType {
		return refuse("the payload is of type %.80q, want %q: what was signed is something else", p.Critical.Type, payloadType)
	}
	if got := p.Critical.Image.Digest; got != want.Digest || got == "" {
		return refuse("it is of %.80q, wanted is %s: it belongs to another image", got, want.Digest)
	}
	if ref := p.Critical.Identity.Reference; len(want.Repositories) > 0 && !slices.ContainsFunc(want.Repositories, func(r string) bool { return within(ref, r) }) {
		return refuse("it was made for %.200q, wanted is %s: it was copied from another repository; sign the release where it lies, or allow that repository", ref, strings.Join(want.Repositories, " or "))
	}
	return want.checkAnnotations(p.Optional)
}

// within tells whether a docker reference is of a repository: newer versions
// of cosign add the tag or digest that was given to them.
func within(reference, repository string) bool {
	rest, ok := strings.CutPrefix(reference, repository)
	return ok && (rest == "" || rest[0] == ':' && !strings.Contains(rest, "/") || rest[0] == '@')
}

// decode reads JSON that has one meaning only. Unknown members are passed
// over: cosign adds some from time to time.
func decode(raw []byte, v any) error {
	if err := strictjson.Check(raw, maxDepth); err != nil {
		return err
	}
	return json.Unmarshal(raw, v)
}
