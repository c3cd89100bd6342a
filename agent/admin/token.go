package admin

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/perennial-go/perennial/internal/atomicfile"
	"github.com/perennial-go/perennial/internal/lastgood"
	"github.com/perennial-go/perennial/internal/strictjson"
)

// Leeway is how far the clocks of the agent and of who issues tokens may
// differ: a token counts that much before its nbf and iat and after its exp.
const Leeway = 30 * time.Second

const (
	maxToken   = 8 << 10
	maxJWKS    = 1 << 20
	jwksDepth  = 8
	minRSABits = 2048
	// maxRSABits bounds the work of one verification.
	maxRSABits = 8192
	// defaultRoleClaim is the default of Tokens.RoleClaim.
	defaultRoleClaim = "perennial_role"
	maxClaimValues   = 64
)

// Tokens says which bearer tokens count. The zero value takes none.
type Tokens struct {
	// JWKSFile is a JSON Web Key Set with the public keys of who issues them.
	JWKSFile string
	// Issuer and Audience must be the token's iss and among its aud; required.
	Issuer, Audience string
	// RoleClaim is the claim whose value, a string or a list of strings, is
	// granted roles by "claim:VALUE"; default "perennial_role". Without any
	// grant to "claim:" or "sub:" the values probe, read and operate stand for
	// themselves.
	RoleClaim string
}

func (t Tokens) given() bool { return t.JWKSFile != "" }

func (t Tokens) check() error {
	switch {
	case !t.given() && t != Tokens{}:
		return errors.New("tokens have an issuer, an audience or a role claim and no key set: name a JWKS file")
	case !t.given():
		return nil
	case t.Issuer == "" || t.Audience == "":
		return errors.New("tokens need an issuer and an audience: without them, a token that the same issuer made for another service would count here")
	}
	return nil
}

// signatures are the algorithms that count: those of public keys. With HMAC a
// public key would be a secret that everybody knows.
func signatures() []jose.SignatureAlgorithm {
	return []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA}
}

type keySet map[string]jose.JSONWebKey

// tokens judges bearer tokens.
type tokens struct {
	Tokens
	algorithms []jose.SignatureAlgorithm

	mu   sync.Mutex
	keys *lastgood.Part[*keySet]
}

func openTokens(t Tokens) (*tokens, error) {
	if t.RoleClaim == "" {
		t.RoleClaim = defaultRoleClaim
	}
	opened := &tokens{Tokens: t, algorithms: signatures()}
	opened.keys = lastgood.New(
		func(*keySet) (*keySet, error) { return readKeySet(t.JWKSFile) },
		func(a, b *keySet) bool { return a == b }, t.JWKSFile)
	if _, err := opened.current(); err != nil {
		return nil, err
	}
	return opened, nil
}

// current is the last key set that was in order, and what is wrong with the
// file as it is.
func (t *tokens) current() (keySet, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	keys, _, err := t.keys.Current()
	if keys == nil {
		return nil, err
	}
	return *keys, err
}

func readKeySet(path string) (*keySet, error) {
	data, err := atomicfile.Read(path, maxJWKS)
	if err != nil {
		return nil, fmt.Errorf("JWKS file: %w", err)
	}
	keys, err := parseKeySet(data)
	if err != nil {
		return nil, fmt.Errorf("JWKS file %s: %w", path, err)
	}
	return &keys, nil
}

// parseKeySet takes a set whole or not at all.
func parseKeySet(data []byte) (keySet, error) {
	if err := strictjson.Check(data, jwksDepth); err != nil {
		return nil, err
	}
	var raw struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(data, &raw); err != nil {
		return nil, fmt.Errorf("want {\"keys\": [...]}: %w", err)
	}
	keys := keySet{}
	for i, text := range raw.Keys {
		var key jose.JSONWebKey
		err := key.UnmarshalJSON(text)
		if errors.Is(err, jose.ErrUnsupportedKeyType) {
			continue // as RFC 7517, section 5, wants it
		}
		if err == nil {
			err = usable(key)
		}
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", i+1, err)
		}
		if _, twice := keys[key.KeyID]; twice {
			return nil, fmt.Errorf("key %d: the kid %.60q occurs twice: a token that names it could mean either", i+1, key.KeyID)
		}
		keys[key.KeyID] = key
	}
	for kid, key := range keys {
		if !signs(key) {
			delete(keys, kid)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("want a public key for signatures, found none")
	}
	return keys, nil
}

// usable refuses keys that would make the set dangerous to trust.
func usable(key jose.JSONWebKey) error {
	switch k := key.Key.(type) {
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return fmt.Errorf("an RSA key of %d bits: want %d to %d", bits, minRSABits, maxRSABits)
		}
	case *ecdsa.PublicKey, ed25519.PublicKey:
	case []byte:
		return errors.New("a symmetric key: whoever may check tokens by it can make them; use public keys")
	default:
		if !key.IsPublic() {
			return errors.New("a private key: give the agent the public one, and replace this one if the file was exposed")
		}
		return nil // of a kind that signs no token here
	}
	if key.KeyID == "" {
		return errors.New("it has no kid, by which tokens name their key")
	}
	if !key.Valid() {
		return errors.New("it is not valid")
	}
	return nil
}

// signs tells whether tokens may be signed by a key.
func signs(key jose.JSONWebKey) bool {
	switch key.Key.(type) {
	case *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey:
		return key.Use == "" || key.Use == "sig"
	}
	return false
}

// bearer returns the token of a request, "" if there is no Authorization.
func bearer(h http.Header) (string, error) {
	switch all := h.Values("Authorization"); len(all) {
	case 0:
		return "", nil
	case 1:
		scheme, token, ok := strings.Cut(all[0], " ")
		switch {
		case !strings.EqualFold(scheme, "Bearer") || !ok:
			return "", errors.New("want the scheme Bearer")
		case token == "" || strings.ContainsAny(token, " \t,"):
			return "", errors.New("want one token after Bearer")
		case len(token) > maxToken:
			return "", fmt.Errorf("a token of %d bytes: want at most %d", len(token), maxToken)
		}
		return token, nil
	default:
		return "", fmt.Errorf("want one Authorization header, found %d", len(all))
	}
}

// subjects returns the subjects that a token makes its bearer, the first of
// which names it. No error says anything of the token's secret part.
func (t *tokens) subjects(token string, now time.Time) ([]string, error) {
	parsed, err := jwt.ParseSigned(token, t.algorithms)
	if err != nil {
		if unexpected, ok := errors.AsType[*jose.ErrUnexpectedSignatureAlgorithm](err); ok {
			return nil, fmt.Errorf("the algorithm %.20q does not count", unexpected.Got)
		}
		return nil, errors.New("it is no signed JWT")
	}
	if len(parsed.Headers) != 1 {
		return nil, fmt.Errorf("%d signatures: want one", len(parsed.Headers))
	}
	header := parsed.Headers[0]
	for _, name := range []jose.HeaderKey{"crit", "b64"} {
		if _, there := header.ExtraHeaders[name]; there {
			return nil, fmt.Errorf("the header %s does not count here", name)
		}
	}
	keys, _ := t.current() // what is wrong with the file, watch tells
	key, known := keys[header.KeyID]
	switch {
	case header.KeyID == "":
		return nil, errors.New("it names no key: want a kid")
	case !known:
		return nil, fmt.Errorf("its key %.60q is not in the set", header.KeyID)
	case key.Algorithm != "" && key.Algorithm != header.Algorithm:
		return nil, fmt.Errorf("the algorithm %.20q is not that of its key", header.Algorithm)
	}
	var claims jwt.Claims
	var all map[string]json.RawMessage
	if err := parsed.Claims(key.Key, &claims, &all); err != nil {
		if errors.Is(err, jose.ErrCryptoFailure) {
			return nil, errors.New("its signature is not of its key")
		}
		return nil, errors.New("its claims cannot be read")
	}
	if claims.Expiry == nil {
		return nil, errors.New("it never expires: want an exp")
	}
	expected := jwt.Expected{Issuer: t.Issuer, AnyAudience: jwt.Audience{t.Audience}, Time: now}
	if err := claims.ValidateWithLeeway(expected, Leeway); err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "go-jose/go-jose/jwt: "))
	}
	values, err := roleValues(all[t.RoleClaim])
	if err != nil {
		return nil, fmt.Errorf("its claim %s: %w", t.RoleClaim, err)
	}
	subjects := []string{kindSub + claims.Subject}
	for _, v := range values {
		subjects = append(subjects, kindClaim+v)
	}
	return subjects, nil
}

// roleValues reads a string or a list of strings.
func roleValues(raw json.RawMessage) ([]string, error) {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 {
		return nil, nil
	}
	var list []*string
	switch raw[0] {
	case '"':
		list = []*string{nil}
		if err := json.Unmarshal(raw, &list[0]); err != nil {
			return nil, errors.New("it cannot be read")
		}
	case '[':
		if err := json.Unmarshal(raw, &list); err != nil {
			return nil, errors.New("want strings in the list")
		}
	default:
		return nil, errors.New("want a string or a list of strings")
	}
	if len(list) > maxClaimValues {
		return nil, fmt.Errorf("%d values: want at most %d", len(list), maxClaimValues)
	}
	values := make([]string, 0, len(list))
	for _, v := range list {
		if v == nil {
			return nil, errors.New("want strings in the list")
		}
		values = append(values, *v)
	}
	return values, nil
}
