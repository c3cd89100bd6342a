// Package redact takes secrets out of text that goes to others: those that it
// is told, and what looks like one. It errs on the side of taking too much.
package redact

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"net/url"
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
	pemKey = regexp.MustCompile(`(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\z)`)
	// A secret key of minisign begins with its algorithms' names.
	minisignKey = regexp.MustCompile(`RW[A-Za-z0-9+/]{2}(?:Y0Iy|AEIy)[A-Za-z0-9+/=]{60,}`)
	jwt         = regexp.MustCompile(`eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*`)
	credentials = regexp.MustCompile(`(?i)(bearer|basic)(\s+)[A-Za-z0-9._~+/=-]{6,}`)
	userInfo    = regexp.MustCompile(`(://[^\s/@:"'\\]*):[^\s/@"'\\]+@`)
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
		text = pemKey.ReplaceAllString(text, Mark)
	}
	var out strings.Builder
	out.Grow(len(text))
	for line := range strings.Lines(text) {
		out.WriteString(oneLine(line))
	}
	return out.String()
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
		line = userInfo.ReplaceAllString(line, "${1}:"+Mark+"@")
	}
	lower := strings.ToLower(line)
	has := func(words ...string) bool {
		return slices.ContainsFunc(words, func(word string) bool { return strings.Contains(lower, word) })
	}
	if has("bearer", "basic") {
		line = credentials.ReplaceAllString(line, "${1}${2}"+Mark)
	}
	if has("pass", "secret", "token", "key", "credential") {
		line = assigned(line)
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
		switch value := line[:n]; value {
		case "", "true", "false", "null", "0":
			out.WriteString(value)
		default:
			out.WriteString(Mark)
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

// secretName is of what usually has a secret as its value.
var secretName = regexp.MustCompile(`(?i)pass(word|wd|phrase)?$|passw|secret|token|credential|api_?-?key|private|auth|(^|[_-])key$|(^|[_-])pw$|dsn`) //nolint:gochecknoglobals // a constant

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
// taken out.
func CommandLine(args []string) []string {
	shown := slices.Clone(args)
	for i := 0; i < len(shown); i++ {
		flag, value, joined := strings.Cut(shown[i], "=")
		if !strings.HasPrefix(flag, "-") || !SecretName(strings.TrimLeft(flag, "-")) {
			continue
		}
		switch {
		case joined && !isPath(value):
			shown[i] = flag + "=" + Mark
		case !joined && i+1 < len(shown) && !strings.HasPrefix(shown[i+1], "-"):
			if i++; !isPath(shown[i]) {
				shown[i] = Mark
			}
		}
	}
	return shown
}

// isPath is of the file that a key is in.
func isPath(value string) bool {
	return strings.HasPrefix(value, "/") || strings.HasPrefix(value, "./") || strings.HasPrefix(value, "../")
}
