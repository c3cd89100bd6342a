package audit

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"mvdan.cc/sh/v3/syntax"
)

// gitlab judges .gitlab-ci.yml: images of jobs and their services, what is
// included from elsewhere, and scripts.
func (s *source) gitlab() bool {
	d := s.mustYAML()
	if d == nil {
		return true
	}
	for _, part := range d.parts {
		p := d.newGitlabPart(part)
		for i := range p.jobs {
			p.pulls(&p.jobs[i])
		}
		p.scripts()
		includes := d.get(part, "include")
		for _, include := range append(items(includes), includes) {
			d.include(include)
		}
	}
	return d.end()
}

// gitlabPart is one document of GitLab's.
type gitlabPart struct {
	*documents
	part     *yaml.Node
	given    map[*yaml.Node]map[string]*yaml.Node // variables, as far as they were asked for
	named    map[string]*yaml.Node                // what the document holds: each get would go through all jobs
	jobs     []gitlabJob                          // the first is the document itself, whose fields are defaults
	declared map[string]bool
	sets     map[*yaml.Node]*use // what scripts set, as far as it was asked for
}

// gitlabJob is a job and what it is made from, the job itself first: what
// stands earlier counts.
type gitlabJob struct {
	chain []*yaml.Node
	whole bool // what it extends is all in this document
}

func (d *documents) newGitlabPart(part *yaml.Node) *gitlabPart {
	p := &gitlabPart{documents: d, part: part, given: map[*yaml.Node]map[string]*yaml.Node{}, named: map[string]*yaml.Node{}, declared: map[string]bool{}, sets: map[*yaml.Node]*use{}}
	d.each(part, func(m *yaml.Node) {
		d.fields(d.get(m, "variables"), func(key string, _ *yaml.Node) { p.declared[key] = true })
	})
	p.jobs = []gitlabJob{{chain: []*yaml.Node{part}, whole: true}}
	var all []*yaml.Node
	d.fields(part, func(name string, job *yaml.Node) {
		p.named[name] = job
		all = append(all, job)
	})
	for _, job := range all {
		made := gitlabJob{whole: true}
		if p.extend(&made, job, 0); len(made.chain) == 0 {
			continue // there are too many values already
		}
		p.jobs = append(p.jobs, made)
		for _, row := range items(d.get(job, "parallel", "matrix")) {
			d.fields(row, func(key string, _ *yaml.Node) { p.declared[key] = true })
		}
	}
	return p
}

// maxExtended is how far GitLab follows extends.
const maxExtended = 11

// extend adds a job and then what it extends, of which the last counts most.
func (p *gitlabPart) extend(made *gitlabJob, job *yaml.Node, depth int) {
	if job == nil || depth > maxExtended || !p.spend(depth) {
		made.whole = false
		return
	}
	made.chain = append(made.chain, job)
	extends := p.get(job, "extends")
	for _, name := range slices.Backward(append(items(extends), extends)) {
		if text(name) != "" {
			p.extend(made, p.named[text(name)], depth+1)
		}
	}
}

// field returns what a job has under a key, if need be from what it extends or
// from the defaults.
func (p *gitlabPart) field(job *gitlabJob, key string) *yaml.Node {
	for _, m := range job.chain {
		if n := p.get(m, key); n != nil {
			return n
		}
	}
	if n := p.get(p.named["default"], key); n != nil {
		return n
	}
	return p.named[key]
}

// pulls judges the images of a job.
func (p *gitlabPart) pulls(job *gitlabJob) {
	of := p.values(job)
	p.pulledWith(p.get(job.chain[0], "image"), of)
	for _, service := range items(p.get(job.chain[0], "services")) {
		p.pulledWith(service, of)
	}
}

// varies returns the variables of a job that differ from run to run, as its rules
// or its matrix set them.
func (p *gitlabPart) varies(job *gitlabJob) map[string]bool {
	all := map[string]bool{}
	add := func(key string, _ *yaml.Node) { all[key] = true }
	for _, m := range slices.Concat(job.chain, []*yaml.Node{p.named["workflow"]}) {
		for _, rule := range items(p.get(m, "rules")) {
			p.fields(p.get(rule, "variables"), add)
		}
		for _, row := range items(p.get(m, "parallel", "matrix")) {
			p.fields(row, add)
		}
	}
	return all
}

// values looks variables up as a job has them. An empty one is to be given its
// value as a pipeline is started.
func (p *gitlabPart) values(job *gitlabJob) func(name string) (string, bool) {
	var varies map[string]bool
	var of func(name string, depth int) (string, bool)
	of = func(name string, depth int) (string, bool) {
		if varies == nil {
			varies = p.varies(job)
		}
		if varies[name] || depth > maxValueDepth || !p.spend(depth) {
			return "", false
		}
		for _, m := range slices.Concat(job.chain, []*yaml.Node{p.part}) {
			n := p.variables(m)[name]
			if n == nil {
				continue
			}
			if value := p.get(n, "value"); value != nil {
				n = value
			}
			filled := interpolateFrom(text(n), func(inner string) (string, bool) { return of(inner, depth+1) })
			return filled, filled != ""
		}
		return "", false
	}
	return func(name string) (string, bool) { return of(name, 0) }
}

// maxValueDepth is how often variables may name variables.
const maxValueDepth = 3

// variables returns what stands in the variables of a job by its names.
func (p *gitlabPart) variables(m *yaml.Node) map[string]*yaml.Node {
	all, ok := p.given[m]
	if !ok {
		all = map[string]*yaml.Node{}
		p.fields(p.get(m, "variables"), func(key string, value *yaml.Node) { all[key] = value })
		p.given[m] = all
	}
	return all
}

// scripts judges each script where it stands, knowing what runs before it in the
// same shell.
func (p *gitlabPart) scripts() {
	before := map[*yaml.Node][]*yaml.Node{}
	unknown := map[*yaml.Node]bool{}
	for i := range p.jobs {
		job := &p.jobs[i]
		first, script := p.field(job, "before_script"), p.field(job, "script")
		if same := before[script]; first != nil && (len(same) == 0 || same[len(same)-1] != first) {
			before[script] = append(same, first)
		}
		unknown[first], unknown[script] = unknown[first] || !job.whole, unknown[script] || !job.whole
	}
	for i := range p.jobs {
		for _, key := range []string{"before_script", "script", "after_script"} {
			n := p.get(p.jobs[i].chain[0], key)
			if n == nil {
				continue
			}
			known := p.referenced(nil, n, 0)
			for _, first := range before[n] {
				known = p.referenced(append(known, p.setBy(first)), first, 0)
			}
			if unknown[n] {
				known = append(known, nil)
			}
			p.lines(n, p.declared, known...)
		}
	}
}

// referenced adds what the scripts set that a script takes in by !reference, nil
// for one in another file.
func (p *gitlabPart) referenced(all []*use, n *yaml.Node, depth int) []*use {
	for _, item := range items(n) {
		if item = target(item); !p.spend(depth) || item != nil && item.Kind == yaml.SequenceNode && item.Tag != "!reference" {
			return append(all, nil)
		}
		if item == nil || item.Kind != yaml.SequenceNode || len(item.Content) == 0 {
			continue
		}
		other := p.named[text(item.Content[0])]
		for _, key := range item.Content[1:] {
			other = p.get(other, text(key))
		}
		all = p.referenced(append(all, p.setBy(other)), other, depth+1)
	}
	return all
}

// setBy reads what a script sets, nil if that cannot be told.
func (p *gitlabPart) setBy(n *yaml.Node) *use {
	if n == nil {
		return nil
	}
	if u, ok := p.sets[n]; ok {
		return u
	}
	lines := []string{text(n)}
	for _, item := range items(n) {
		lines = append(lines, text(item))
	}
	script := strings.Join(lines, "\n")
	p.sets[n] = nil
	if file, err := parseShell(script, syntax.LangBash); err == nil && len(script) <= maxScript {
		u := newUse()
		u.read(file)
		p.sets[n] = u
	}
	return p.sets[n]
}

// include judges a part of the pipeline that lies in another project.
func (d *documents) include(n *yaml.Node) {
	if project := d.get(n, "project"); text(project) != "" {
		d.gitRef("project "+text(project), text(d.get(n, "ref")), d.place(project))
	}
	if component := d.get(n, "component"); text(component) != "" {
		name, ref, _ := strings.Cut(text(component), "@")
		if ref == "~latest" {
			ref = "latest"
		}
		d.gitRef("component "+name, ref, d.place(component))
	}
	if remote := d.get(n, "remote"); text(remote) != "" && d.get(n, "integrity") == nil {
		d.report(ciRefFloating, d.place(remote), "%.200s is what the server has on the day: give its integrity, or keep a copy here", text(remote))
	}
}
