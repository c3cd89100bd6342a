package audit

import (
	"fmt"
	"strings"

	"oras.land/oras-go/v2/registry"
)

// reference is where an image is, with docker's defaults filled in.
type reference struct {
	host, repository string
	tag, digest      string // either may be empty
}

// maxReference is longer than any registry takes.
const maxReference = 1024

// parseReference reads an image reference as container tools do: without a
// host it is of docker.io, and there without a slash of library/.
func parseReference(s string) (reference, error) {
	if len(s) > maxReference {
		return reference{}, fmt.Errorf("it has %d characters, at most %d are taken", len(s), maxReference)
	}
	name, digest, pinned := strings.Cut(s, "@")
	r := reference{digest: digest}
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		r.tag = name[i+1:]
		name = name[:i]
		if r.tag == "" {
			return reference{}, fmt.Errorf("after the colon there is no tag")
		}
	}
	host, rest, ok := strings.Cut(name, "/")
	if ok && (strings.ContainsAny(host, ".:") || host == "localhost") {
		r.host, r.repository = host, rest
	} else {
		r.host, r.repository = "docker.io", name
	}
	if r.host == "index.docker.io" {
		r.host = "docker.io"
	}
	if r.host == "docker.io" && !strings.Contains(r.repository, "/") {
		r.repository = "library/" + r.repository
	}
	checked := registry.Reference{Registry: r.host, Repository: r.repository, Reference: r.tag}
	if err := checked.ValidateRegistry(); err != nil {
		return reference{}, fmt.Errorf("%.100q is no host of a registry", r.host)
	}
	if err := checked.ValidateRepository(); err != nil {
		return reference{}, fmt.Errorf("%.100q is no name of a repository: want lower-case letters and digits, separated by . _ - or /", r.repository)
	}
	if r.tag != "" && checked.ValidateReferenceAsTag() != nil {
		return reference{}, fmt.Errorf("%.140q is no tag", r.tag)
	}
	checked.Reference = r.digest
	if pinned && checked.ValidateReferenceAsDigest() != nil {
		return reference{}, fmt.Errorf("after the @ there is no digest: want sha256: and 64 lower-case hexadecimal digits")
	}
	return r, nil
}

// moving says why a tag is taken to move, or nothing if it names one version,
// day or commit.
func moving(tag string) string {
	parts := strings.FieldsFunc(strings.ToLower(tag), func(r rune) bool { return r == '-' || r == '.' || r == '_' })
	for _, part := range parts {
		switch part {
		case "latest", "nightly", "snapshot", "edge":
			return fmt.Sprintf("%s is what was pushed last", part)
		}
	}
	if exactVersion(tag) || dated(tag) || commitTag(tag) {
		return ""
	}
	for _, part := range parts {
		switch part {
		case "stable", "main", "master", "dev", "devel", "develop", "canary", "current", "lts", "rolling", "next", "head", "trunk", "mainline", "testing", "unstable", "beta", "alpha", "release", "prod", "production", "staging", "default", "daily":
			return fmt.Sprintf("%s is a name that moves", part)
		}
	}
	if strings.ContainsAny(tag, "0123456789") {
		return "a partial version moves with each release"
	}
	return "a name without a version can move"
}

// exactVersion reports whether three numbers with dots between stand in s,
// beginning where a number begins.
func exactVersion(s string) bool {
	numbers, inNumber := 0, false
	for i := 0; i <= len(s); i++ {
		switch {
		case i < len(s) && s[i] >= '0' && s[i] <= '9':
			if !inNumber {
				numbers, inNumber = numbers+1, true
			}
			if numbers == 3 {
				return true
			}
		case i < len(s) && s[i] == '.' && inNumber:
			inNumber = false
		default:
			numbers, inNumber = 0, false
		}
	}
	return false
}

// dated reports whether a day stands in s: 20260131 or 2026-01-31.
func dated(s string) bool {
	digits := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return '0'
		}
		return r
	}, s)
	i := max(strings.Index(digits, "00000000"), strings.Index(digits, "0000-00-00"))
	return i >= 0 && (strings.HasPrefix(s[i:], "20") || strings.HasPrefix(s[i:], "19"))
}

// commitTag reports whether s is the id of a commit, perhaps behind a word.
func commitTag(s string) bool {
	for _, prefix := range []string{"sha-", "git-", "commit-"} {
		s = strings.TrimPrefix(s, prefix)
	}
	return len(s) >= 7 && hexadecimal(s) && strings.ContainsAny(s, "0123456789") && strings.ContainsAny(s, "abcdef")
}

func hexadecimal(s string) bool {
	return strings.Trim(s, "0123456789abcdef") == ""
}

// verdict is what is known of an image once it was judged.
type verdict struct {
	known  bool // it is named in full
	pinned bool // by digest
	moving string
	tag    string
}

// image judges a reference. at is where text stands in the file, so that it
// can be replaced; written is what stands there, if that is another thing
// than text.
func (s *source) image(text string, at position, written string) verdict {
	if strings.Contains(text, "$") || strings.Contains(text, "{{") || strings.Contains(text, "<<") {
		if v := s.imageSomewhere(text, at); v.moving != "" {
			return v
		}
		s.report(imageVariable, at, "image %.200s has a variable without a value here: give it an exact default, or audit what is rendered", text)
		return verdict{}
	}
	ref, err := parseReference(text)
	if err != nil {
		s.report(imageInvalid, at, "image %.200q: %v", text, err)
		return verdict{}
	}
	v := verdict{known: true, pinned: ref.digest != "", tag: ref.tag}
	if v.pinned {
		return v
	}
	var f *Finding
	switch why := moving(ref.tag); {
	case ref.tag == "":
		v.moving = "without a tag it is latest"
		f = s.report(imageTagMissing, at, "image %s has neither tag nor digest and is latest, whatever that is on the day: write an exact tag and the digest", text)
	case why != "":
		v.moving = why
		f = s.report(imageTagFloating, at, "image %s has a tag that moves (%s): write an exact tag and the digest", text, why)
	default:
		f = s.report(imageDigestMissing, at, "image %s has no digest and its tag can be pushed again: append @sha256:…", text)
	}
	switch {
	case at.why != "":
		f.byHand = at.why
	case written != "" && written != text:
		f.byHand = "it is put together from variables"
	case at.offset >= 0:
		f.edit = &edit{offset: at.offset, old: text, ask: question{image: ref}}
	}
	return v
}

// imageSomewhere judges a reference of which variables say only where the image
// is, such as $REGISTRY/app:latest: that moves wherever it is.
func (s *source) imageSomewhere(text string, at position) verdict {
	i := strings.LastIndexByte(text, '/')
	if i < 0 || strings.ContainsAny(text[i:], "${}()<>") {
		return verdict{}
	}
	ref, err := parseReference("somewhere.invalid" + text[i:])
	if err != nil || ref.digest != "" {
		return verdict{}
	}
	v := verdict{moving: moving(ref.tag), tag: ref.tag}
	var f *Finding
	switch {
	case ref.tag == "":
		v.moving = "without a tag it is latest"
		f = s.report(imageTagMissing, at, "image %.200s has neither tag nor digest and is latest, whatever that is on the day: write an exact tag and the digest", text)
	case v.moving != "":
		f = s.report(imageTagFloating, at, "image %.200s has a tag that moves (%s): write an exact tag and the digest", text, v.moving)
	}
	if f != nil {
		f.byHand = "a variable says where it is"
	}
	return v
}
