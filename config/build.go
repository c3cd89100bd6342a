package config

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"unicode"
)

// content is a configuration: the program's part, a *T, and the sections'.
type content struct {
	value    any
	sections []any
}

// valueOf is the program's part; nil if that is another type's.
func valueOf[T any](c content) *T {
	value, _ := c.value.(*T)
	return value
}

// build makes a configuration of docs, in their order, and reads again only
// those that are not known. A failure names the document at fault, so far as
// that can be told.
func (s *Store[T]) build(docs []document, known readings) (content, *Failure) {
	next, bad := s.assemble(docs, known)
	if bad != nil && len(known) > 0 { // whose positions are not known
		clear(known)
		next, bad = s.assemble(docs, known)
	}
	return next, bad
}

func (s *Store[T]) assemble(docs []document, known readings) (content, *Failure) {
	var merged map[string]any
	trees := make([]*tree, 0, len(docs))
	// Of a single document the whole says what is wrong with it.
	single := len(docs) == 1
	for _, d := range docs {
		t, isKnown := known.of(d)
		var err error
		if !isKnown {
			t, err = d.parsed(s.cfg.MaxBytes)
			if single = single && err == nil && !hasNull(t.values); err == nil && !single {
				// Each alone first: what is wrong in one is wrong even where a later
				// one covers it, and only so is it known whose fault it is.
				err = s.fits(t)
			}
		}
		if err != nil {
			return content{}, failure(docs, d.Key, err.Error())
		}
		trees = append(trees, t)
		merged = merge(merged, t.values)
	}
	next, err := s.empty()
	if err == nil {
		err = s.lay(merged, next)
	}
	if err != nil {
		if wrong, ok := errors.AsType[faults](err); ok && single {
			err = trees[0].locate(wrong)
		}
		return content{}, failure(docs, newest(docs), s.veiled(err, merged, next))
	}
	if err := s.check(next); err != nil {
		key := newest(docs)
		f := asFault(err)
		for i, t := range trees {
			if f.path != "" && t.has(f.path) {
				key = docs[i].Key
				err = t.locate(faults{f})
			}
		}
		return content{}, failure(docs, key, s.veiled(err, merged, next))
	}
	known.add(docs, trees)
	return next, nil
}

// empty is the configuration that no document says anything about.
func (s *Store[T]) empty() (content, error) {
	value := clone(s.cfg.Default)
	parts, err := s.sections.defaults()
	return content{value: &value, sections: parts}, err
}

// fits reports what of a single document is of the wrong type.
func (s *Store[T]) fits(t *tree) error {
	alone := content{value: new(T), sections: make([]any, len(s.sections))}
	for i, section := range s.sections {
		alone.sections[i] = section.New()
	}
	err := s.lay(t.values, alone)
	if wrong, ok := errors.AsType[faults](err); ok {
		err = t.locate(wrong)
	}
	if err != nil {
		return errors.New(s.veiled(err, t.values, alone))
	}
	return nil
}

// lay decodes doc over c.
func (s *Store[T]) lay(doc map[string]any, c content) error {
	rest, parts := s.sections.split(doc)
	wrong, err := collect(nil, decode(rest, c.value))
	for i, part := range parts {
		if err == nil {
			wrong, err = collect(wrong, s.sections[i].decode(part, c.sections[i]))
		}
	}
	if err != nil {
		return err
	}
	return wrong.err()
}

// check asks all that may refuse a configuration.
func (s *Store[T]) check(c content) error {
	value := valueOf[T](c)
	if err := guard(func() error { return s.cfg.Validate(value) }); err != nil {
		return err
	}
	if err := validate(value); err != nil {
		return err
	}
	for i, section := range s.sections {
		if err := validate(c.sections[i]); err != nil {
			f := asFault(err)
			return fault{path: join(section.Name, f.path), reason: f.reason}
		}
	}
	return nil
}

// asFault finds the path that the message of a validation begins with: "a.b:
// too small".
func asFault(err error) fault {
	if f, ok := errors.AsType[fault](err); ok {
		return f
	}
	path, reason, found := strings.Cut(err.Error(), ": ")
	if !found || strings.ContainsFunc(path, notInPath) {
		return fault{reason: err.Error()}
	}
	return fault{path: path, reason: reason}
}

func notInPath(r rune) bool {
	return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("._-[]", r)
}

// veiled is the message of err without the secrets of doc and c.
func (s *Store[T]) veiled(err error, doc map[string]any, c content) string {
	var secrets []string
	rest, parts := s.sections.split(doc)
	secretsInDocument(rest, reflect.TypeFor[T](), false, &secrets)
	for i, part := range parts {
		secretsInDocument(part, reflect.TypeOf(c.sections[i]), false, &secrets)
	}
	return veil(err.Error(), append(secrets, c.secrets()...))
}

// secrets are the texts in c that are not to be shown.
func (c content) secrets() []string {
	var secrets []string
	for _, v := range append([]any{c.value}, c.sections...) {
		secretsIn(reflect.ValueOf(v), false, &secrets)
	}
	return secrets
}

// Check returns what documents, the weakest first, come to over the default,
// without files and environment, or why they would be refused: for tests of T.
func (s *Store[T]) Check(documents ...[]byte) (T, error) {
	docs := make([]document, len(documents))
	for i, data := range documents {
		docs[i] = document{Key: fmt.Sprintf("document %d", i+1), Data: data}
	}
	c, bad := s.build(docs, nil)
	if bad != nil {
		return *new(T), bad
	}
	return *valueOf[T](c), nil
}
