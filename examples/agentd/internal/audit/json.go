package audit

import (
	"bytes"
	"encoding/json"
	"strings"
)

// asYAML returns JSON as the parser of YAML takes it, anything else as it is.
// That parser has no \/ and no pairs of \u escapes. What a string becomes
// shorter by stands as blanks behind it, so that columns are those of the file.
func asYAML(raw []byte) []byte {
	if !bytes.Contains(raw, []byte(`\/`)) && !bytes.Contains(raw, []byte(`\u`)) || !json.Valid(raw) {
		return raw
	}
	out := make([]byte, 0, len(raw))
	for len(raw) > 0 {
		end := stringEnd(raw)
		var text string
		if end == 0 || json.Unmarshal(raw[:end], &text) != nil {
			end = 1
			out = append(out, raw[0])
		} else {
			out = append(out, plainString(raw[:end])...)
		}
		raw = raw[end:]
	}
	return out
}

// stringEnd returns how long the JSON string is that raw begins with, 0 if it
// begins with none.
func stringEnd(raw []byte) int {
	if raw[0] != '"' {
		return 0
	}
	for i := 1; i < len(raw); i++ {
		switch raw[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return 0
}

// plainString replaces the escapes of one JSON string that YAML has not.
func plainString(quoted []byte) string {
	var b strings.Builder
	blanks := 0
	for i := 0; i < len(quoted); i++ {
		length := 1
		switch {
		case quoted[i] != '\\':
		case quoted[i+1] == '/':
			length, blanks = 2, blanks+1
			b.WriteByte('/')
		case quoted[i+1] == 'u' && (quoted[i+2]|0x20) == 'd' && quoted[i+3] >= '8':
			// JSON decodes the pair, or says U+FFFD for half of one.
			length = 6
			if rest := quoted[i+6:]; len(rest) > 6 && rest[0] == '\\' && rest[1] == 'u' && rest[2]|0x20 == 'd' && rest[3] >= 'A' {
				length = 12
			}
			var text string
			if err := json.Unmarshal([]byte(`"`+string(quoted[i:i+length])+`"`), &text); err != nil {
				text = "\ufffd"
			}
			blanks += length - len([]rune(text))
			b.WriteString(text)
		default:
			length = 2
			b.Write(quoted[i : i+2])
		}
		if length == 1 {
			b.WriteByte(quoted[i])
		}
		i += length - 1
	}
	return b.String() + strings.Repeat(" ", blanks)
}
