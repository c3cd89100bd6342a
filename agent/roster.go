package agent

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/perennial-go/perennial/internal/etcdkv"
)

const (
	// maxPlugins bounds the plugins of an entry.
	maxPlugins = 256
	// maxExamples bounds what Strays tells, and maxExample each, in bytes.
	maxExamples = 10
	maxExample  = 100
)

// roster puts together what the keys say of each agent. A value is decoded when
// it is asked for, and once: a change of one agent costs that agent, and keys
// that belong to no agent cost next to nothing.
type roster struct {
	keys    keys
	records map[string]*record // by id
	// strays are the ids of records without a registration, and whole keys
	// without an id.
	strays map[string]bool
	told   *Strays // of strays; nil = they have changed
}

// record is what the keys with one id hold.
type record struct {
	registration, status *part
	plugins              []pluginPart // by name
}

// part is a value that is decoded when it is first asked for.
type part struct {
	data    []byte
	created int64
	value   any // nil until then, and if it cannot be read
	err     error
}

type pluginPart struct {
	name string
	*part
}

func newRoster(k keys) *roster {
	return &roster{keys: k, records: map[string]*record{}, strays: map[string]bool{}}
}

// take takes over what was read.
func (r *roster) take(kv *mvccpb.KeyValue) { r.set(string(kv.Key), kv.Value, kv.CreateRevision) }

// set takes over a value, which must not be modified, and returns whose it is;
// "" = nobody's. created is the key's create revision.
func (r *roster) set(key string, data []byte, created int64) (id string) {
	id, place := r.place(key, true)
	if place == nil {
		r.stray(key, true)
		return ""
	}
	place(&part{data: data, created: created})
	r.stray(id, r.records[id].registration == nil)
	return id
}

// remove forgets a key and returns whose it was.
func (r *roster) remove(key string) (id string) {
	id, place := r.place(key, false)
	if place == nil {
		r.stray(key, false)
		return ""
	}
	place(nil)
	rec := r.records[id]
	if rec.registration == nil && rec.status == nil && len(rec.plugins) == 0 {
		delete(r.records, id)
		r.stray(id, false)
		return id
	}
	r.stray(id, rec.registration == nil)
	return id
}

func (r *roster) stray(what string, is bool) {
	if r.strays[what] == is {
		return
	}
	r.told = nil
	if is {
		r.strays[what] = true
	} else {
		delete(r.strays, what)
	}
}

// place says which part of which record a key is; nil = of none. A nil part
// takes it out.
func (r *roster) place(key string, add bool) (id string, place func(*part)) {
	kind, id, plugin, ok := r.keys.split(key)
	if !ok {
		return "", nil
	}
	rec := r.records[id]
	if rec == nil {
		if !add {
			return "", nil
		}
		rec = &record{}
		r.records[id] = rec
	}
	switch kind {
	case kindRegistry:
		return id, func(p *part) { rec.registration = p }
	case kindStatus:
		return id, func(p *part) { rec.status = p }
	default:
		return id, func(p *part) { rec.plugin(plugin, p) }
	}
}

func (rec *record) plugin(name string, p *part) {
	i, found := slices.BinarySearchFunc(rec.plugins, name, func(p pluginPart, name string) int { return strings.Compare(p.name, name) })
	switch {
	case found && p == nil:
		rec.plugins = slices.Delete(rec.plugins, i, i+1)
	case found:
		rec.plugins[i].part = p
	case p != nil:
		rec.plugins = slices.Insert(rec.plugins, i, pluginPart{name, p})
	}
}

// entry is a new one; nil = no agent is registered with this id.
func (r *roster) entry(id string) *Entry {
	rec := r.records[id]
	if rec == nil || rec.registration == nil {
		return nil
	}
	e, wrong := &Entry{Joined: rec.registration.created}, mistakes{}
	if reg := read[Registration](rec.registration, r.keys.registry(id), &wrong); reg != nil {
		e.Registration = *reg
	}
	if e.ID != id {
		if e.ID != "" || len(wrong.all) == 0 {
			wrong.note(fmt.Errorf("%s says that its id is %.130q", r.keys.registry(id), e.ID))
		}
		e.Registration = Registration{ID: id}
	}
	if rec.status != nil {
		e.Status = read[Status](rec.status, r.keys.status(id), &wrong)
	}
	for i, p := range rec.plugins {
		if i == maxPlugins {
			wrong.note(fmt.Errorf("%s has %d plugins, the first %d are shown", id, len(rec.plugins), maxPlugins))
			break
		}
		if v := read[PluginRecord](p.part, r.keys.plugin(id, p.name), &wrong); v != nil {
			e.Plugins = append(e.Plugins, *v)
		}
	}
	e.Error = wrong.String()
	return e
}

// entries are those of all agents, by id.
func (r *roster) entries() []*Entry {
	var all []*Entry
	for _, id := range slices.Sorted(maps.Keys(r.records)) {
		if e := r.entry(id); e != nil {
			all = append(all, e)
		}
	}
	return all
}

// read returns the value of p, decoding it unless that was done; nil = it
// cannot be read.
func read[T any](p *part, key string, wrong *mistakes) *T {
	if p.value == nil && p.err == nil {
		v := new(T)
		if p.err = decode(key, p.data, v); p.err == nil {
			p.value = v
		}
		p.data = nil
	}
	wrong.note(p.err)
	v, _ := p.value.(*T)
	return v
}

// mistakes are what of an agent's values cannot be read.
type mistakes struct{ all []error }

func (m *mistakes) note(err error) {
	if err != nil {
		m.all = append(m.all, err)
	}
}

// String tells the first three.
func (m *mistakes) String() string {
	if n := len(m.all) - 3; n > 0 {
		return fmt.Sprintf("%s; and %d more", strings.ReplaceAll(errors.Join(m.all[:3]...).Error(), "\n", "; "), n)
	}
	if len(m.all) == 0 {
		return ""
	}
	return strings.ReplaceAll(errors.Join(m.all...).Error(), "\n", "; ")
}

// report tells the strays.
func (r *roster) report() Strays {
	if r.told == nil {
		r.told = &Strays{Count: len(r.strays)}
		// There may be 100,000: no sorting of all for the sake of ten.
		var first []string
		for what := range r.strays {
			i, _ := slices.BinarySearch(first, what)
			if i < maxExamples {
				first = slices.Insert(first, i, what)
				first = first[:min(len(first), maxExamples)]
			}
		}
		for _, what := range first {
			if etcdkv.ValidID(what) == nil {
				what += " has keys and no registration"
			} else {
				what = fmt.Sprintf("%.*q", maxExample, what)
			}
			r.told.Examples = append(r.told.Examples, what)
		}
	}
	return *r.told
}
