package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/perennial-go/perennial/config"
	"github.com/perennial-go/perennial/internal/redact"
	"github.com/perennial-go/perennial/upgrade"
)

// Bounds of what is taken from a state directory.
const (
	stateFileBytes = 1 << 20
	logTailBytes   = 128 << 10
	listingMost    = 5000
	listingDepth   = 6
	slotsMost      = 50
	pluginsMost    = 64
)

// StateDiagnosis says what DiagnoseState is to diagnose.
type StateDiagnosis struct {
	// StateDir is the directory of an agent. Required.
	StateDir string
	// Version is of the program that makes the diagnosis.
	Version string
	// Schemas say what of the kept configuration is secret; without any, all
	// its values are left out.
	Schemas []*config.Schema
	// Secrets are texts that are taken out wherever they are.
	Secrets []string
}

// DiagnoseState writes what lies in the state directory of an agent that does
// not run: as Diagnose, but from the disk alone. It changes nothing there.
func DiagnoseState(ctx context.Context, c StateDiagnosis, w io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, DiagnoseTimeout)
	defer cancel()
	s, err := openState(c.StateDir, c.Schemas)
	if err != nil {
		return err
	}
	defer s.close()
	clean := redact.New(append(slices.Clone(c.Secrets), s.secrets...))
	a := newArchive(w, clean, Diagnosis{Version: c.Version, Source: "disk"})
	a.missing("status.json", errors.New("no agent was asked, so that only what lies on the disk is here"))
	for _, p := range append([]finding{buildPart()}, s.parts()...) {
		if err := a.add(ctx, p); err != nil {
			return err
		}
	}
	return a.close()
}

// stateFiles is a state directory as a diagnosis reads it. Nothing that lies
// there is trusted: no link is followed out of it, and only regular files are
// read.
type stateFiles struct {
	dir  string
	root *os.Root
	// kept is the configuration without what is hidden; secrets is what is, and
	// what plugins were given to start with.
	kept    config.Kept
	keptErr error
	secrets []string
}

func openState(dir string, schemas []*config.Schema) (*stateFiles, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("state directory: %w; name that of the agent", err)
	}
	s := &stateFiles{dir: dir, root: root}
	data, err := s.read(configFile, stateFileBytes*4)
	if err == nil {
		s.kept, s.secrets, err = config.Redaction{Schemas: schemas}.Kept(data)
	}
	if len(schemas) == 0 {
		// All is hidden: what is short is more likely a word than a secret.
		s.secrets = slices.DeleteFunc(s.secrets, func(text string) bool { return len(text) < 8 })
	}
	s.keptErr = err
	for _, name := range s.names("plugins/plugins", pluginsMost) {
		if data, err := s.read("plugins/plugins/"+name, stateFileBytes); err == nil {
			s.secrets = append(s.secrets, pluginSettings(data)...)
		}
	}
	return s, nil
}

func (s *stateFiles) close() { _ = s.root.Close() }

// pluginSettings are the texts that the manifest in a plugin's record hands to
// the plugin. There is no schema that says which are secret.
func pluginSettings(record []byte) (texts []string) {
	var r struct{ Manifest string }
	var m struct{ Settings yaml.Node }
	if json.Unmarshal(record, &r) != nil || yaml.Unmarshal([]byte(r.Manifest), &m) != nil {
		return nil
	}
	nodes := []*yaml.Node{&m.Settings}
	for len(nodes) > 0 {
		n := nodes[0]
		nodes = append(nodes[1:], n.Content...)
		if n.Kind == yaml.ScalarNode && n.Tag == "!!str" && len(n.Value) >= 8 {
			texts = append(texts, n.Value)
		}
	}
	return texts
}

// open opens a regular file. One that is none does not hold it up.
func (s *stateFiles) open(name string) (*os.File, int64, error) {
	before, err := s.root.Lstat(name)
	if err != nil {
		return nil, 0, err
	}
	if !before.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("want a regular file, found %s", before.Mode().Type())
	}
	// It may have been replaced meanwhile.
	f, err := s.root.OpenFile(name, os.O_RDONLY|openNonblock, 0)
	if err != nil {
		return nil, 0, err
	}
	now, err := f.Stat()
	if err == nil && !os.SameFile(before, now) {
		err = errors.New("it was replaced while it was opened")
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, now.Size(), nil
}

func (s *stateFiles) read(name string, limit int64) ([]byte, error) {
	f, size, err := s.open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	if size > limit {
		return nil, fmt.Errorf("it has %d bytes, at most %d are taken", size, limit)
	}
	return io.ReadAll(io.LimitReader(f, limit))
}

// names are those in a directory, sorted, at most so many.
func (s *stateFiles) names(dir string, most int) []string {
	f, err := s.root.Open(dir)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	entries, _ := f.ReadDir(most) // those that there are
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	slices.Sort(names)
	return names
}

// parts are the entries that a state directory gives. Files are named one by
// one: what else lies there may be a key.
func (s *stateFiles) parts() []finding {
	parts := []finding{
		asJSON("upgrade.json", "releases on this host, the last attempt, quarantine and hold, as agentd status tells them", func() any {
			r, err := upgrade.Inspect(s.dir)
			if err != nil {
				return map[string]string{"error": err.Error()}
			}
			return r
		}),
		{name: "config/kept.json", about: "the last-known-good configuration, without secrets", limit: 8 << 20, make: s.showKept},
		{name: "state/listing.txt", about: "names, modes, sizes and times of the files in the state directory", limit: stateFileBytes, make: s.list},
	}
	for name, about := range map[string]string{
		"journal.json": "the attempt in progress, or the last", "quarantine.json": "releases that failed", "hold.json": "why the host is kept out of upgrades",
		"request.json": "a request that waits", "starts.json": "starts of successors", "boots.json": "cold starts without health",
		"withdrawn.json": "what is known to be withdrawn", "trust.json": "keyring in force, highest sequence", "instance.json": "tells agents with one id apart",
		"rollout.json":      "what was reported of the last rollout",
		"config.json.trial": "a configuration that is being taken in", "supervised": "the serving process under a supervisor", "plugins/disabled.json": "plugins that are disabled",
	} {
		if _, err := s.root.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			continue // most exist only now and then
		}
		parts = append(parts, s.file(name, about))
	}
	slices.SortStableFunc(parts[3:], func(a, b finding) int { return strings.Compare(a.name, b.name) })
	for _, slot := range s.names("slots", slotsMost) {
		for _, name := range []string{"complete", "release.json"} {
			if at := path.Join("slots", slot, name); s.there(at) {
				parts = append(parts, s.file(at, "a release on this host"))
			}
		}
	}
	for _, name := range s.names("plugins/plugins", pluginsMost) {
		parts = append(parts, s.record("plugins/plugins/"+name))
	}
	for _, name := range s.names("plugins/log", pluginsMost) {
		parts = append(parts, s.tail("plugins/log/"+name))
	}
	return parts
}

func (s *stateFiles) there(name string) bool {
	_, err := s.root.Lstat(name)
	return err == nil
}

func (s *stateFiles) file(name, about string) finding {
	return finding{name: "state/" + name, about: about, limit: stateFileBytes, make: func(_ context.Context, w io.Writer) (string, error) {
		data, err := s.read(name, stateFileBytes)
		if err != nil {
			return "", err
		}
		_, err = w.Write(data)
		return "", err
	}}
}

// record shows the record of a plugin's process but for its manifest, which has
// settings.
func (s *stateFiles) record(name string) finding {
	return finding{name: "state/" + name, about: "the process of a plugin, without its manifest", limit: stateFileBytes, make: func(_ context.Context, w io.Writer) (string, error) {
		data, err := s.read(name, stateFileBytes)
		if err != nil {
			return "", err
		}
		var record map[string]any
		if json.Unmarshal(data, &record) != nil {
			return "", errors.New("it is no record that can be read") // the error may quote it
		}
		delete(record, "manifest")
		delete(record, "signature")
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return "manifest and signature are left out", e.Encode(record)
	}}
}

// tail shows the end of a plugin's log, in whole lines.
func (s *stateFiles) tail(name string) finding {
	return finding{name: "logs/" + strings.TrimPrefix(name, "plugins/log/"), about: "the newest that a plugin has written", limit: logTailBytes, make: func(_ context.Context, w io.Writer) (string, error) {
		f, size, err := s.open(name)
		if err != nil {
			return "", err
		}
		defer func() { _ = f.Close() }()
		from := max(size-logTailBytes, 0)
		data, err := io.ReadAll(io.NewSectionReader(f, from, logTailBytes))
		if err != nil {
			return "", err
		}
		note := ""
		if from > 0 {
			note = fmt.Sprintf("the first of its %d bytes are left out", size)
			// Nor a line that begins before: a secret that is cut in two is not
			// known any more.
			_, data, _ = bytes.Cut(data, []byte("\n"))
		}
		_, err = w.Write(data)
		return note, err
	}}
}

func (s *stateFiles) showKept(_ context.Context, w io.Writer) (string, error) {
	if errors.Is(s.keptErr, fs.ErrNotExist) {
		return "", errors.New("there is none: no configuration was in force yet")
	}
	if s.keptErr != nil {
		return "", s.keptErr
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return "", e.Encode(s.kept)
}

// list writes what there is, without reading or following any of it.
func (s *stateFiles) list(ctx context.Context, w io.Writer) (note string, err error) {
	n := 0
	err = fs.WalkDir(s.root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			_, failed := fmt.Fprintf(w, "%-50q %v\n", name, err)
			return failed
		case n == listingMost:
			note = fmt.Sprintf("the rest after %d files is left out", n)
			return fs.SkipAll
		case d.IsDir() && strings.Count(name, "/") >= listingDepth:
			note = "what lies deeper is left out"
			return fs.SkipDir
		}
		n++
		info, err := d.Info()
		if err != nil {
			_, err = fmt.Fprintf(w, "%q %v\n", name, err)
			return err
		}
		_, err = fmt.Fprintf(w, "%s %12d %s %q\n", info.Mode(), info.Size(), info.ModTime().UTC().Format("2006-01-02T15:04:05Z"), name)
		return err
	})
	return note, err
}
