package audit

import (
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// pipelineKind tells by the name which CI system a file is of, nil if none.
func pipelineKind(name string) func(*source) bool {
	base, dir := strings.ToLower(path.Base(name)), path.Dir(name)
	in := func(want string) bool { return dir == want || strings.HasSuffix(dir, "/"+want) }
	switch {
	case in(".github/workflows"), base == "action.yml", base == "action.yaml":
		return (*source).github
	case base == ".gitlab-ci.yml", strings.HasSuffix(base, ".gitlab-ci.yml"), in(".gitlab/ci"):
		return (*source).gitlab
	case base == "config.yml" && in(".circleci"):
		return (*source).circle
	case strings.HasPrefix(base, ".woodpecker.y"), in(".woodpecker"), strings.HasPrefix(base, ".drone.y"),
		strings.HasPrefix(base, "azure-pipelines"), strings.HasPrefix(base, "bitbucket-pipelines."):
		return (*source).pipeline
	}
	return nil
}

// github judges workflows and actions.
func (s *source) github() bool {
	d := s.mustYAML()
	if d == nil {
		return true
	}
	for _, part := range d.parts {
		declared := map[string]bool{}
		d.each(part, func(m *yaml.Node) {
			d.fields(d.get(m, "env"), func(key string, _ *yaml.Node) { declared[key] = true })
			exported(text(d.get(m, "run")), declared)
		})
		foreign := d.foreignSteps(part)
		d.each(part, func(m *yaml.Node) {
			d.uses(d.get(m, "uses"))
			d.runner(d.get(m, "runs-on"))
			if run := d.get(m, "run"); text(run) != "" && posixShell(text(d.get(m, "shell"))) && !foreign[m] {
				d.block(run, declared, "GITHUB_", "RUNNER_", "ACTIONS_", "INPUT_", "STATE_")
			}
		})
		d.fields(d.get(part, "jobs"), func(_ string, job *yaml.Node) {
			d.pulledAtRun(d.get(job, "container"))
			d.fields(d.get(job, "services"), func(_ string, service *yaml.Node) { d.pulledAtRun(service) })
		})
		if image := d.get(part, "runs", "image"); strings.HasPrefix(text(image), dockerScheme) {
			d.uses(image)
		}
	}
	return d.end()
}

// foreignSteps returns the steps of a workflow whose scripts are not for a shell
// that is read: without one of their own they have that of the job, then that of
// the workflow, and on Windows PowerShell.
func (d *documents) foreignSteps(part *yaml.Node) map[*yaml.Node]bool {
	foreign := map[*yaml.Node]bool{}
	general := text(d.get(part, "defaults", "run", "shell"))
	d.fields(d.get(part, "jobs"), func(_ string, job *yaml.Node) {
		shell := text(d.get(job, "defaults", "run", "shell"))
		if shell == "" {
			shell = general
		}
		if shell == "" && d.onWindows(job) {
			shell = "pwsh"
		}
		if posixShell(shell) {
			return
		}
		for _, step := range items(d.get(job, "steps")) {
			if step = target(step); text(d.get(step, "shell")) == "" {
				foreign[step] = true
			}
		}
	})
	return foreign
}

// onWindows reports whether a job runs on Windows, perhaps among other systems
// that its matrix names.
func (d *documents) onWindows(job *yaml.Node) bool {
	runner := d.get(job, "runs-on")
	if d.mentions(runner, "windows", 0) {
		return true
	}
	return d.mentions(runner, "${{", 0) && d.mentions(d.get(job, "strategy", "matrix"), "windows", 0)
}

// mentions reports whether word stands in a scalar below n, in whatever case.
func (d *documents) mentions(n *yaml.Node, word string, depth int) bool {
	if n = target(n); n == nil || !d.spend(depth) {
		return false
	}
	return strings.Contains(strings.ToLower(text(n)), word) || slices.ContainsFunc(n.Content, func(below *yaml.Node) bool {
		return d.mentions(below, word, depth+1)
	})
}

// exported adds the variables that a step sets for those after it.
func exported(run string, declared map[string]bool) {
	if !strings.Contains(run, "GITHUB_ENV") {
		return
	}
	for word := range strings.FieldsFuncSeq(run, func(r rune) bool { return strings.ContainsRune(" \t\n\"';", r) }) {
		if name, _, ok := strings.Cut(word, "="); ok {
			declared[name] = true
		}
	}
}

const dockerScheme = "docker://"

// uses judges what a step, or a job, takes from elsewhere.
func (d *documents) uses(n *yaml.Node) {
	what := text(n)
	if what == "" || strings.HasPrefix(what, "./") || strings.HasPrefix(what, "../") {
		return
	}
	at := d.place(n)
	if image, ok := strings.CutPrefix(what, dockerScheme); ok {
		if at.offset >= 0 {
			at.offset += len(dockerScheme)
		}
		d.image(image, at, "")
		return
	}
	name, ref, _ := strings.Cut(what, "@")
	f := d.gitRef(name, ref, at)
	owner, path, _ := strings.Cut(name, "/")
	repository, _, _ := strings.Cut(path, "/")
	switch {
	case f == nil:
		return
	case ref == "":
		f.byHand = "it names no revision to ask for"
		return
	case at.offset < 0:
		f.byHand = at.why
		return
	case !gitName(owner) || !gitName(repository) || !gitRevision(ref):
		f.byHand = "it is no action, or no revision, that can be asked for"
		return
	}
	e := &edit{offset: at.offset + len(name) + 1, old: ref, ask: question{action: owner + "/" + repository, revision: ref}}
	rest := strings.TrimPrefix(d.line(at.line)[e.offset-d.source.lines[at.line-1]:], ref)
	code, comment, ok := commentable(rest)
	if !ok {
		f.byHand = "its line has no room for the tag as a comment"
		return
	}
	if word, _, _ := strings.Cut(comment, " "); word != ref {
		e.old, e.after = ref+code, code+" # "+ref
	}
	f.edit = e
}

// commentable splits what follows a value in its line of YAML into what is no
// comment and the text of the comment, if there is one. ok tells whether a comment
// can be put between: text that goes on in the next line would end there.
func commentable(rest string) (code, comment string, ok bool) {
	code = rest
	if i := strings.IndexByte(rest, '#'); i > 0 && strings.ContainsAny(rest[i-1:i], " \t") {
		code, comment = rest[:i], strings.TrimLeft(rest[i:], "# \t")
	}
	code = strings.TrimRight(code, " \t")
	inner := code
	if inner != "" && strings.ContainsAny(inner[:1], `"'`) {
		inner = inner[1:] // it ends the value
	}
	if inner == "" {
		return code, comment, true
	}
	another := strings.ContainsAny(inner, `"'`) || strings.Contains(inner, "uses")
	return code, comment, !another && strings.ContainsAny(inner[len(inner)-1:], "{}[],")
}

// runner judges the machine image that a job runs on.
func (d *documents) runner(n *yaml.Node) {
	for _, label := range append(items(n), n) {
		if word := text(label); strings.HasSuffix(word, "-latest") {
			d.report(ciRunnerFloating, d.place(target(label)), "the job runs on %s, which becomes another system: name its version, such as ubuntu-24.04", word)
		}
	}
}

// pulledAtRun judges an image of CI that is a name, or a mapping with it.
func (d *documents) pulledAtRun(n *yaml.Node) {
	d.pulledWith(n, func(string) (string, bool) { return "", false })
}

// pulledWith is pulledAtRun where variables have values.
func (d *documents) pulledWith(n *yaml.Node, of func(name string) (string, bool)) {
	image, policy := n, (*yaml.Node)(nil)
	if n = target(n); n != nil && n.Kind == yaml.MappingNode {
		if image = d.get(n, "image"); image == nil {
			image = d.get(n, "name")
		}
		policy = d.get(n, "pull_policy")
	}
	if text(image) == "" {
		return
	}
	v := d.image(interpolateFrom(text(image), of), d.place(target(image)), text(image))
	for _, word := range append(items(policy), policy) {
		if w := text(word); w != "" && !strings.Contains(w, "$") && !slices.Contains([]string{"always", "if-not-present", "never"}, w) {
			d.report(pullPolicyUnknown, d.place(target(word)), "pull policy %.100q is none: want always, if-not-present or never, in this spelling", w)
		}
		// A list names what is tried next where one fails.
		if w := text(word); v.moving != "" && (w == "if-not-present" || w == "never") {
			d.report(pullPolicyStale, d.place(target(word)), "pull policy %s keeps what %s meant when a runner pulled it first (%s): pin the image by digest, or pull always", w, text(image), v.moving)
		}
	}
}

// circle judges .circleci/config.yml.
func (s *source) circle() bool {
	d := s.mustYAML()
	if d == nil {
		return true
	}
	for _, part := range d.parts {
		d.each(part, func(m *yaml.Node) {
			for _, container := range items(d.get(m, "docker")) {
				d.pulledAtRun(container)
			}
			d.machine(d.get(m, "machine", "image"))
		})
		d.fields(d.get(part, "orbs"), func(_ string, orb *yaml.Node) {
			if name, version, _ := strings.Cut(text(orb), "@"); text(orb) != "" && !exactVersion(version) {
				d.report(ciRefFloating, d.place(orb), "orb %s is at %.100q, which moves: write all three numbers of its version", name, version)
			}
		})
	}
	return d.end()
}

// machine judges the machine image of a job of CircleCI.
func (d *documents) machine(n *yaml.Node) {
	if word := text(n); strings.HasSuffix(word, ":current") || strings.HasSuffix(word, ":default") || strings.HasSuffix(word, ":edge") {
		d.report(ciRunnerFloating, d.place(n), "the job runs on %s, which becomes another system: name its version", word)
	}
}

// pipeline judges the files of CI systems whose steps name images in plain
// fields: Woodpecker, Drone, Azure Pipelines, Bitbucket.
func (s *source) pipeline() bool {
	d := s.mustYAML()
	if d == nil {
		return true
	}
	for _, part := range d.parts {
		d.each(part, func(m *yaml.Node) {
			if image := d.get(m, "image"); image != nil {
				d.pulledAtRun(image)
			}
			if container := d.get(m, "container"); container != nil && strings.ContainsAny(text(container), ":/") {
				d.pulledAtRun(container)
			}
			if pipe := d.get(m, "pipe"); text(pipe) != "" {
				name, version, _ := strings.Cut(text(pipe), ":")
				if !exactVersion(version) && !strings.HasPrefix(text(pipe), dockerScheme) {
					d.report(ciRefFloating, d.place(pipe), "pipe %s is at %.100q, which moves: write all three numbers of its version", name, version)
				}
			}
			if vm := d.get(m, "vmImage"); strings.HasSuffix(text(vm), "-latest") {
				d.runner(vm)
			}
		})
	}
	return d.end()
}

// posixShell reports whether a step's shell is one whose scripts are read.
func posixShell(shell string) bool {
	first, _, _ := strings.Cut(shell, " ")
	return slices.Contains([]string{"", "bash", "sh"}, first)
}
