// Package archtest holds the rules of which package may import which. Its
// test applies them to this repository; they are also the place to change
// when a rule is to change.
//
//	examples -> agent -> upgrade config plugin health -> internal -> others
//
// The rules are read from the import clauses of every Go file, whatever its
// build constraints, so that one run holds for all systems.
package archtest

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// Module is the path of the root module.
const Module = "github.com/perennial-go/perennial"

// File is what the rules look at.
type File struct {
	// Path is relative to the repository, with slashes.
	Path string
	// Imports are the import paths as written.
	Imports []string
}

// Scan reads the imports of every Go file under root, but for those that the
// go command ignores too: testdata, vendor and names that begin with . or _.
func Scan(root string) ([]File, error) {
	var files []File
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		ignored := d.Name() == "testdata" || d.Name() == "vendor" || strings.HasPrefix(d.Name(), ".") || strings.HasPrefix(d.Name(), "_")
		if d.IsDir() && ignored && name != root {
			return fs.SkipDir
		}
		if d.IsDir() || ignored || path.Ext(d.Name()) != ".go" {
			return nil
		}
		f, err := read(root, name)
		files = append(files, f)
		return err
	})
	return files, err
}

func read(root, name string) (File, error) {
	rel, err := filepath.Rel(root, name)
	if err != nil {
		return File{}, err
	}
	parsed, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
	if err != nil {
		return File{}, err
	}
	f := File{Path: filepath.ToSlash(rel)}
	for _, spec := range parsed.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return File{}, fmt.Errorf("%s: import %s: %w", rel, spec.Path.Value, err)
		}
		f.Imports = append(f.Imports, imported)
	}
	return f, nil
}

// Violation is an import that a rule forbids, or a file that none covers.
type Violation struct {
	File, Import, Rule string
}

func (v Violation) String() string {
	if v.Import == "" {
		return v.File + ": " + v.Rule
	}
	return v.File + " imports " + v.Import + ": " + v.Rule
}

// Check returns every violation in files.
func Check(files []File) []Violation {
	var found []Violation
	for _, f := range files {
		if _, known := mayImport[place(path.Dir(f.Path))]; !known {
			found = append(found, Violation{File: f.Path, Rule: "no rule names this place: put the package where the map has room or add the place to archtest"})
			continue
		}
		for _, imported := range f.Imports {
			if rule := f.check(imported); rule != "" {
				found = append(found, Violation{File: f.Path, Import: imported, Rule: rule})
			}
		}
	}
	return found
}
