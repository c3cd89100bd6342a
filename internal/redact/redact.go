// Package redact takes secrets out of text that goes to others: those that it
// is told, and what looks like one. It errs on the side of taking too much.
package redact

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Mark stands where a secret was.
const Mark = "(secret)"

// Shortest is how many bytes a secret has at least to be looked for: a shorter
// one is in every other word.
const Shortest = 4

// Redactor takes out known secrets and what looks like one. It may be used
// concurrently.
type Redactor struct {
	known *strings.Replacer
	more  []func(string) string
}

// New returns a Redactor for texts that are known to be secret, and for what
// each of more takes out, which may be nil.
func New(secrets []string, more ...func(string) string) *Redactor {
	all := map[string]bool{}
	for _, s := range secrets {
		for _, form := range forms(s) {
			if len(form) >= Shortest {
				all[form] = true
			}
		}
	}
	list := make([]string, 0, len(all))
	for s := range all {
		list = append(list, s)
	}
	// Of two that begin alike the longer one goes first, or its rest would stay.
	slices.SortFunc(list, func(a, b string) int { return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b)) })
	pairs := make([]string, 0, 2*len(list))
	for _, s := range list {
		pairs = append(pairs, s, Mark)
	}
	return &Redactor{known: strings.NewReplacer(pairs...), more: more}
}

// forms are the ways in which a secret may be written, each of its lines too:
// a log has one line where the secret has several.
func forms(secret string) []string {
	secret = strings.TrimSpace(secret)
	var all []string
	for _, s := range append([]string{secret}, strings.Split(secret, "\n")...) {
		if s = strings.TrimSpace(s); s == "" {
			continue
		}
		quoted := strconv.Quote(s)
		all = append(all, s, quoted[1:len(quoted)-1], url.QueryEscape(s), url.PathEscape(s),
			base64.StdEncoding.EncodeToString([]byte(s)), base64.URLEncoding.EncodeToString([]byte(s)),
			base64.RawStdEncoding.EncodeToString([]byte(s)), base64.RawURLEncoding.EncodeToString([]byte(s)))
		if text, err := json.Marshal(s); err == nil {
			escaped := string(text[1 : len(text)-1])
			// And once more: an error that quotes JSON, in a line of JSON.
			twice, _ := json.Marshal(escaped) //nolint:errchkjson // a string is always JSON
			all = append(all, escaped, string(twice[1:len(twice)-1]))
		}
	}
	return all
}

// What looks like a secret. Quotes may be escaped, for JSON holds JSON.
//
//nolint:gochecknoglobals // constants, which Go has no regular expressions for
var (
	// A private key in PEM, to its end or that of the text. Its lines may be
	// joined by \n written out.
	pemKey   = regexp.MustCompile(`(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\z)`)
	pemBegin = regexp.MustCompile(`-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----`)
	pemEnd   = regexp.MustCompile(`-----END [A-Z0-9 ]*PRIVATE KEY-----`)
	// A secret key of minisign begins with its algorithms' names.
	minisignKey = regexp.MustCompile(`RW[A-Za-z0-9+/]{2}(?:Y0Iy|AEIy)[A-Za-z0-9+/=]{60,}`)
	jwt         = regexp.MustCompile(`eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*`)
	credentials = regexp.MustCompile(`(?i)(bearer|basic)(\s+)[A-Za-z0-9._~+/=-]{6,}`)
	// The rest of what is said in a header of HTTP, of whatever scheme.
	header = regexp.MustCompile(`(?i)((?:authorization|cookie)\\*["']?\s*[:=]\s*\[?(?:\\*["'])?)[^\s"'\\\]][^"'\\\]\r\n]*`)
	// To the last @ before the path: people forget to escape them. A name
	// without a password is often a token.
	userInfo = regexp.MustCompile(`(://)(?:([^\s/@:"'\\]*)(:))?[^\s/"'\\]+@`)
	// The private members of a JSON Web Key.
	jwk = regexp.MustCompile(`(\\*"(?:d|k|p|q|dp|dq|qi)\\*"\s*:\s*\\*")[A-Za-z0-9_-]{8,}`)
	// A flag and its value as the next word, or as the next string of a list.
	flagValue = regexp.MustCompile(`(?i)(--?[a-z0-9_-]*(?:password|passwd|passphrase|secret|token|api[_-]?key)s?(?:\s+|\\*["'],\s*\\*["']))[^\s"'\\,-][^\s"'\\,\]]*`)
	// What follows is the value, behind its quote, if there is one.
	assignment = regexp.MustCompile(`(?i)(?:password|passwd|passphrase|secret|token|api[_-]?key|private[_-]?key|credential)s?\\*["']?\s*[:=]\s*(\\*["'])?`)
)

// Text returns text without secrets.
func (r *Redactor) Text(text string) string {
	for _, f := range r.more {
		text = f(text)
	}
	text = r.known.Replace(text)
	if strings.Contains(text, "PRIVATE KEY-----") {
		text = pemKey.ReplaceAllString(beheaded(text), Mark)
	}
	var out strings.Builder
	out.Grow(len(text))
	for line := range strings.Lines(text) {
		out.WriteString(oneLine(line))
	}
	return out.String()
}

// pemLongest is more than a private key in PEM has bytes, with something before
// each of its lines.
const pemLongest = 16 << 10

// beheaded takes out a private key whose beginning was cut off, as from the end
// of a log.
func beheaded(text string) string {
	end := pemEnd.FindStringIndex(text)
	if end == nil {
		return text
	}
	if begin := pemBegin.FindStringIndex(text); begin != nil && begin[0] < end[0] {
		return text
	}
	return text[:max(0, end[0]-pemLongest)] + Mark + text[end[1]:]
}

// oneLine looks with the expressions, which are slow, only where what they all
// want is there.
func oneLine(line string) string {
	if strings.Contains(line, "Y0Iy") || strings.Contains(line, "AEIy") {
		line = minisignKey.ReplaceAllString(line, Mark)
	}
	if strings.Contains(line, "eyJ") {
		line = jwt.ReplaceAllString(line, Mark)
	}
	if strings.Contains(line, "://") {
		line = userInfo.ReplaceAllString(line, "${1}${2}${3}"+Mark+"@")
	}
	lower := strings.ToLower(line)
	has := func(words ...string) bool {
		return slices.ContainsFunc(words, func(word string) bool { return strings.Contains(lower, word) })
	}
	if has("bearer", "basic") {
		line = credentials.ReplaceAllString(line, "${1}${2}"+Mark)
	}
	if has("authorization", "cookie") {
		line = header.ReplaceAllString(line, "${1}"+Mark)
	}
	if has("kty") {
		line = jwk.ReplaceAllString(line, "${1}"+Mark)
	}
	if has("pass", "secret", "token", "key", "credential") {
		line = flagValue.ReplaceAllString(assigned(line), "${1}"+Mark)
	}
	return line
}

// assigned takes out what is assigned to a name that is one of a secret.
func assigned(line string) string {
	var out strings.Builder
	for {
		m := assignment.FindStringSubmatchIndex(line)
		if m == nil {
			out.WriteString(line)
			return out.String()
		}
		out.WriteString(line[:m[1]])
		quote := ""
		if m[2] >= 0 {
			quote = line[m[2]:m[3]]
		}
		line = line[m[1]:]
		n := valueLength(line, quote)
		if quote == "" && line != "" && (line[0] == '[' || line[0] == '{') {
			n = nestedLength(line)
		}
		if strings.HasPrefix(line, Mark) {
			n = len(Mark) // it has been taken out already
		}
		switch value := line[:n]; value {
		case "", "true", "false", "null", "0", Mark, "[", "{", "[]", "{}":
			out.WriteString(value)
		default:
			// What was JSON stays so.
			if quote == "" && n > 1 && strings.HasPrefix(line[1:], `"`) {
				out.WriteString(`"` + Mark + `"`)
			} else {
				out.WriteString(Mark)
			}
		}
		line = line[n:]
	}
}

// valueLength is how long the value is that line begins with, behind its quote:
// up to the same quote, with as many backslashes before it. Without one it ends
// where words do.
func valueLength(line, quote string) int {
	if quote == "" {
		if n := strings.IndexAny(line, " \t\r\n,;&}])\"'\\"); n >= 0 {
			return n
		}
		return len(line)
	}
	mark := quote[len(quote)-1]
	slashes := 0
	for i := range len(line) {
		switch {
		case line[i] == '\\':
			slashes++
		case line[i] == mark && slashes <= len(quote)-1:
			return i - slashes
		default:
			slashes = 0
		}
	}
	return len(strings.TrimRight(line, "\r\n"))
}

// nestedLength is how long the list or map is that line begins with: to its
// bracket, or to the end of the line. Brackets in strings count; then it is
// too long.
func nestedLength(line string) int {
	depth := 0
	for i := range len(line) {
		switch line[i] {
		case '[', '{':
			depth++
		case ']', '}':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return len(strings.TrimRight(line, "\r\n"))
}

// secretName is of what usually has a secret as its value.
var secretName = regexp.MustCompile(`(?i)pass(word|wd|phrase)?$|passw|secret|token|credential|api_?-?key|private|auth|(^|[_-])key$|(^|[_-])pw$|dsn|headers?$`) //nolint:gochecknoglobals // a constant

// SecretName tells whether a flag or an environment variable of that name
// usually holds a secret, and not the name of a file that does.
func SecretName(name string) bool {
	lower := strings.ToLower(name)
	for _, end := range []string{"file", "path", "dir"} {
		if strings.HasSuffix(lower, end) {
			return false
		}
	}
	return secretName.MatchString(name)
}

// CommandLine returns args with the values of flags that usually hold secrets
// taken out, and what else looks like one; and those values.
func CommandLine(args []string) (shown, secrets []string) {
	shown = slices.Clone(args)
	for i := 0; i < len(shown); i++ {
		flag, value, joined := strings.Cut(shown[i], "=")
		if !strings.HasPrefix(flag, "-") || !SecretName(strings.TrimLeft(flag, "-")) {
			continue
		}
		switch {
		case joined && !isPath(value):
			shown[i], secrets = flag+"="+Mark, append(secrets, value)
		case !joined && i+1 < len(shown) && !strings.HasPrefix(shown[i+1], "--"):
			if i++; !isPath(shown[i]) {
				secrets = append(secrets, shown[i])
				shown[i] = Mark
			}
		}
	}
	r := New(nil)
	for i := range shown {
		shown[i] = r.Text(shown[i])
	}
	return shown, secrets
}

// isPath is of the file that a key is in. What only begins like one may be in
// base64.
func isPath(value string) bool {
	if !strings.HasPrefix(value, "/") && !strings.HasPrefix(value, "./") && !strings.HasPrefix(value, "../") {
		return false
	}
	_, err := os.Lstat(value)
	return err == nil
}

// Variable returns what an environment variable has of secrets: its value, if
// it is called like one, and the values in it if that is a list such as
// "a=x,b=y", which OTEL_EXPORTER_OTLP_HEADERS is; and the password of a URL.
// What is shorter than 6 bytes is more likely a word.
func Variable(name, value string) (secrets []string) {
	add := func(text string) {
		if len(text) >= 6 {
			secrets = append(secrets, text)
		}
	}
	if at, err := url.Parse(value); err == nil && at.User != nil {
		password, _ := at.User.Password()
		add(password)
	}
	if !SecretName(name) {
		return secrets
	}
	add(value)
	if !strings.Contains(value, "=") {
		return secrets
	}
	for part := range strings.SplitSeq(value, ",") {
		_, text, _ := strings.Cut(part, "=")
		add(text)
		if plain, err := url.PathUnescape(text); err == nil && plain != text {
			add(plain)
		}
	}
	return secrets
}
