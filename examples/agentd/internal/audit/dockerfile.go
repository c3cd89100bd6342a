package audit

import (
	"bytes"
	"slices"
	"strings"
)

// instruction is one instruction of a Dockerfile, its continued lines joined.
type instruction struct {
	name string // in capitals
	// text is what follows the name; offset is where it begins in the file.
	// Beyond the first line's end the two go apart.
	text   string
	offset int
	single bool // it is one line of the file
}

// dockerfile judges what a Dockerfile builds from: FROM, COPY --from, RUN
// --mount=from and the syntax directive.
func (s *source) dockerfile() bool {
	syntax, escape := s.parserDirectives()
	if syntax != nil {
		s.image(syntax.text, s.at(syntax.offset), "")
	}
	arguments, stages := map[string]string{}, []string{}
	for _, in := range s.instructions(escape) {
		switch in.name {
		case "ARG":
			if len(stages) == 0 {
				for _, w := range in.words() {
					if name, value, ok := strings.Cut(w.text, "="); ok {
						arguments[name] = interpolate(strings.Trim(value, `"'`), arguments)
					}
				}
			}
		case "FROM":
			stages = append(stages, s.from(in, arguments, stages))
		case "ONBUILD":
			if words := in.words(); len(words) > 1 {
				in.name = strings.ToUpper(words[0].text)
				rest := strings.TrimLeft(in.text[len(words[0].text):], " \t")
				in.offset, in.text = in.offset+len(in.text)-len(rest), rest
			}
			s.copied(in, arguments, stages)
		case "COPY", "ADD", "RUN":
			s.copied(in, arguments, stages)
		}
	}
	return true
}

// word is a part of an instruction and where it stands.
type word struct {
	text   string
	offset int // negative if it is not known
}

// words splits an instruction at blanks.
func (in *instruction) words() []word {
	var all []word
	for i := 0; i < len(in.text); {
		if in.text[i] == ' ' || in.text[i] == '\t' {
			i++
			continue
		}
		end := i
		for end < len(in.text) && in.text[end] != ' ' && in.text[end] != '\t' {
			end++
		}
		w := word{in.text[i:end], in.offset + i}
		if !in.single {
			w.offset = -1
		}
		all = append(all, w)
		i = end
	}
	return all
}

// from judges what a stage is made from and returns the stage's name.
func (s *source) from(in instruction, arguments map[string]string, stages []string) string {
	words := in.words()
	for len(words) > 0 && strings.HasPrefix(words[0].text, "--") {
		words = words[1:]
	}
	if len(words) == 0 {
		s.report(imageInvalid, s.at(in.offset), "FROM names no image")
		return ""
	}
	s.built(words[0], in, arguments, stages)
	if len(words) >= 3 && strings.EqualFold(words[1].text, "as") {
		return strings.ToLower(words[2].text)
	}
	return ""
}

// built judges an image that is used in a build, unless it is a stage of it
// or nothing.
func (s *source) built(w word, in instruction, arguments map[string]string, stages []string) {
	name := interpolate(w.text, arguments)
	// A stage can be chosen by a variable of the builder: FROM base-${TARGETOS}.
	prefix, _, variable := strings.Cut(strings.ToLower(name), "$")
	if name == "scratch" || name == "" || slices.ContainsFunc(stages, func(stage string) bool {
		return stage == prefix && !variable || variable && prefix != "" && strings.HasPrefix(stage, prefix)
	}) {
		return
	}
	at := s.at(in.offset)
	if w.offset >= 0 {
		at = s.at(w.offset)
	} else {
		at.offset, at.why = -1, "its instruction goes over several lines"
	}
	s.image(name, at, w.text)
}

// copied judges the images that an instruction takes files from.
func (s *source) copied(in instruction, arguments map[string]string, stages []string) {
	for _, w := range in.words() {
		if !strings.HasPrefix(w.text, "--") {
			return
		}
		from := word{offset: -1}
		if image, ok := strings.CutPrefix(w.text, "--from="); ok && in.name != "RUN" {
			from.text = image
		}
		if mount, ok := strings.CutPrefix(w.text, "--mount="); ok && in.name == "RUN" {
			for option := range strings.SplitSeq(mount, ",") {
				if image, ok := strings.CutPrefix(option, "from="); ok {
					from.text = image
				}
			}
		}
		if from.text == "" || strings.Trim(from.text, "0123456789") == "" { // the number of a stage
			continue
		}
		if i := strings.Index(w.text, from.text); w.offset >= 0 {
			from.offset = w.offset + i
		}
		s.built(from, in, arguments, stages)
	}
}

// parserDirectives reads the comments at the top that are more than that: the
// image of the frontend, if there is one, and the character that continues a
// line.
func (s *source) parserDirectives() (syntax *word, escape byte) {
	escape = '\\'
	for n := range s.lines {
		line := s.line(n + 1)
		comment, ok := strings.CutPrefix(strings.TrimLeft(line, " \t\ufeff"), "#")
		name, value, assigned := strings.Cut(comment, "=")
		if !ok || !assigned || strings.ContainsAny(strings.TrimSpace(name), " \t") {
			return syntax, escape
		}
		value = strings.TrimSpace(value)
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "syntax":
			if value != "" {
				syntax = &word{value, s.lines[n] + strings.LastIndex(line, value)}
			}
		case "escape":
			if value == "`" {
				escape = '`'
			}
		}
	}
	return syntax, escape
}

// instructions joins continued lines and leaves out comments and heredocs.
func (s *source) instructions(escape byte) []instruction {
	var all []instruction
	var open *instruction // one whose last line is continued
	for n := 0; n < len(s.lines); n++ {
		line := s.line(n + 1)
		trimmed := strings.TrimSpace(line)
		if trimmed == "" || strings.HasPrefix(trimmed, "#") {
			continue // also within a continued instruction
		}
		body, continued := strings.CutSuffix(strings.TrimRight(line, " \t"), string(escape))
		if open != nil {
			open.text += " " + strings.TrimSpace(body)
		} else {
			open = s.begin(n, body)
			open.single = !continued
		}
		if continued {
			continue
		}
		all = append(all, *open)
		n = s.heredocs(open, n)
		open = nil
	}
	if open != nil {
		all = append(all, *open)
	}
	return all
}

// begin reads the first line of an instruction.
func (s *source) begin(n int, body string) *instruction {
	rest := strings.TrimLeft(body, " \t\ufeff")
	name, _, _ := strings.Cut(strings.ReplaceAll(rest, "\t", " "), " ")
	argument := strings.TrimLeft(rest[len(name):], " \t")
	return &instruction{name: strings.ToUpper(name), text: argument, offset: s.lines[n] + len(body) - len(argument)}
}

// heredocs returns the last line of those that the instruction begins on line
// n, n if it begins none.
func (s *source) heredocs(in *instruction, n int) int {
	if in.name != "RUN" && in.name != "COPY" && in.name != "ADD" {
		return n
	}
	for _, w := range in.words() {
		_, end, ok := strings.Cut(w.text, "<<")
		end = strings.Trim(strings.TrimPrefix(end, "-"), `"'`)
		if !ok || end == "" || !nameByte(end[0], true) {
			continue
		}
		for last := n + 1; last < len(s.lines); last++ {
			if bytes.Equal(bytes.TrimSpace([]byte(s.line(last+1))), []byte(end)) {
				for ; n < last; n++ {
					s.quiet[n+1] = true
				}
				break
			}
		}
	}
	return n
}
