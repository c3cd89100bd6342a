package agent

import (
	"reflect"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/perennial-go/perennial/plugin"
)

// PluginRecord is the value of plugins/<id>/<plugin>. A change of state, files
// or process is told within Config.Spread; the figures of a plugin that only
// works on are up to a minute old, unless they jump.
type PluginRecord struct {
	Schema int `json:"schema"`
	plugin.Status
}

// Bounds of a record: its text comes from a plugin and its author.
const (
	recordText         = 1 << 10 // bytes of each sentence
	recordCapabilities = 64
)

const (
	// figuresEvery is how old the figures of a record get at least before they
	// are written for their own sake, which they are with the status' beat.
	figuresEvery = 45 * time.Second
	// exceptionsEvery spaces the writes of a plugin that fails over and over.
	exceptionsEvery = 10 * time.Second
	// A jump of memory is told at once: by a quarter, and this many bytes.
	recordMemoryJump = 16 << 20
	// As is a processor in use: by this many seconds of it.
	recordCPUJump = 20
)

// pluginBook keeps what is told of plugins from moving with every measurement:
// at one write for each, the plugins of a fleet would be most of its traffic.
type pluginBook struct {
	mu   sync.Mutex
	told map[string]toldPlugin
}

// toldPlugin is a record as it was told last.
type toldPlugin struct {
	PluginRecord
	facts plugin.Status // what is told as soon as it changes
	at    time.Time
}

// due reports whether something of all is to be told before its time.
func (b *pluginBook) due(all []plugin.Status, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range all {
		if b.stale(bounded(s), now) {
			return true
		}
	}
	return len(all) != len(b.told)
}

// records returns what to tell of all: of those that have nothing new, what
// was told before.
func (b *pluginBook) records(all []plugin.Status, now time.Time) []PluginRecord {
	b.mu.Lock()
	defer b.mu.Unlock()
	told := make(map[string]toldPlugin, len(all))
	records := make([]PluginRecord, 0, len(all))
	for _, s := range all {
		s = bounded(s)
		t := b.told[s.Name]
		if b.stale(s, now) || t.at.Add(figuresEvery).Before(now) {
			t = toldPlugin{PluginRecord{schema, s}, factsOf(s), now}
		}
		told[s.Name] = t
		records = append(records, t.PluginRecord)
	}
	b.told = told
	return records
}

// stale is of a plugin whose record does not do any more. b.mu is held.
func (b *pluginBook) stale(s plugin.Status, now time.Time) bool {
	t, known := b.told[s.Name]
	switch {
	case !known, !reflect.DeepEqual(t.facts, factsOf(s)):
		return true
	case s.Exceptions != t.Exceptions && t.at.Add(exceptionsEvery).Before(now):
		return true
	}
	was, is := t.Usage, s.Usage
	jump := max(is.RSSBytes, was.RSSBytes) - min(is.RSSBytes, was.RSSBytes)
	return jump >= max(recordMemoryJump, was.RSSBytes/4) || is.CPUSeconds >= was.CPUSeconds+recordCPUJump
}

// factsOf is s without its figures, for comparing.
func factsOf(s plugin.Status) plugin.Status {
	s.Usage, s.OpenTasks = plugin.Usage{}, 0
	s.Exceptions, s.LastError, s.LastErrorAt = 0, "", time.Time{}
	return s
}

// bounded is s with what its plugin and its author can make long cut off.
func bounded(s plugin.Status) plugin.Status {
	s.Reason, s.LastError = clipped(s.Reason), clipped(s.LastError)
	s.Capabilities = s.Capabilities[:min(len(s.Capabilities), recordCapabilities)]
	return s
}

// clipped is s, or its beginning.
func clipped(s string) string {
	if len(s) <= recordText {
		return s
	}
	end := recordText
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "…"
}
