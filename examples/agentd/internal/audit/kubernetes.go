package audit

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// manifest judges YAML that may be of Kubernetes or Compose, and is passed
// over if it is of neither.
func (s *source) manifest() bool {
	base := strings.ToLower(path.Base(s.name))
	compose := isCompose(base)
	values := strings.HasPrefix(base, "values")
	kustomization := isKustomization(base)
	known := compose || values || kustomization
	if !known && !slices.ContainsFunc([]string{"apiVersion", "services", "Kustomization"}, func(word string) bool { return bytes.Contains(s.raw, []byte(word)) }) {
		return false
	}
	if !known && bytes.Contains(s.raw, []byte("{{")) && !bytes.Contains(s.raw, []byte("apiVersion")) {
		return false
	}
	d := s.mustYAML()
	if d == nil {
		return true
	}
	judged := known
	for _, part := range d.parts {
		kind := text(d.get(part, "kind"))
		switch {
		case kustomization && kind == "", kind == "Kustomization":
			d.kustomization(part)
		case compose, d.looksComposed(part):
			d.compose(part)
		case d.get(part, "apiVersion") != nil && kind != "":
			d.kubernetes(part)
		case values:
			d.values(part)
		default:
			continue
		}
		judged = true
	}
	return judged && d.end()
}

// isKustomization takes the names that kustomize looks for: a file of one of them
// need not say what it is.
func isKustomization(lower string) bool {
	return lower == "kustomization.yaml" || lower == "kustomization.yml" || lower == "kustomization"
}

// jsonManifest judges JSON if it is a Kubernetes object, as kubectl prints it.
func (s *source) jsonManifest() bool {
	if !bytes.Contains(s.raw, []byte(`"apiVersion"`)) || !bytes.Contains(s.raw, []byte(`"kind"`)) {
		return false
	}
	return s.manifest()
}

// kubernetes judges an object: wherever there are containers, also in objects
// of kinds that are not known here.
func (d *documents) kubernetes(part *yaml.Node) {
	d.each(part, func(m *yaml.Node) {
		for _, key := range []string{"containers", "initContainers", "ephemeralContainers"} {
			for _, c := range items(d.get(m, key)) {
				if image := d.get(c, "image"); text(image) != "" {
					d.pulled(image, d.get(c, "imagePullPolicy"))
				}
			}
		}
		for _, v := range items(d.get(m, "volumes")) {
			if image := d.get(v, "image", "reference"); text(image) != "" {
				d.pulled(image, d.get(v, "image", "pullPolicy"))
			}
		}
	})
}

// pulled judges an image and the policy that it is pulled by. Without one the
// API server fills in Always where the tag is latest or missing, and
// IfNotPresent else.
func (d *documents) pulled(image, policy *yaml.Node) {
	v := d.image(text(image), d.place(image), "")
	d.policy(v, image, text(policy), policy)
}

func (d *documents) policy(v verdict, image *yaml.Node, word string, policy *yaml.Node) {
	if strings.ContainsAny(word, "${") {
		return
	}
	at := image
	if policy != nil && word != "" {
		at = policy
	}
	words := []string{"Always", "IfNotPresent", "Never"}
	switch {
	case word != "" && !slices.Contains(words, word):
		d.report(pullPolicyUnknown, d.place(at), "pull policy %.100q is none: want %s, in this spelling", word, strings.Join(words, ", "))
	case v.moving != "" && (word == "IfNotPresent" || word == "Never"):
		d.report(pullPolicyStale, d.place(at), "pull policy %s keeps what %s meant when a node pulled it first (%s): pin the image by digest, or pull Always", word, text(image), v.moving)
	case v.moving != "" && word == "" && v.tag != "" && v.tag != "latest":
		d.report(pullPolicyStale, d.place(at), "without a pull policy it is IfNotPresent for this tag, which keeps what %s meant when a node pulled it first (%s): pin the image by digest, or pull Always", text(image), v.moving)
	case v.pinned && word == "Always":
		d.report(pullPolicyNeedless, d.place(at), "pull policy Always asks the registry at each start for %s, which cannot change: write IfNotPresent, unless pulling is to check who may", text(image))
	}
}

// kustomization judges what a kustomization puts in the place of images.
func (d *documents) kustomization(part *yaml.Node) {
	for _, m := range items(d.get(part, "images")) {
		name := text(d.get(m, "newName"))
		if name == "" {
			name = text(d.get(m, "name"))
		}
		tag, digest := d.get(m, "newTag"), text(d.get(m, "digest"))
		switch {
		case text(tag) != "" && digest == "":
			at := d.place(tag)
			at.offset, at.why = -1, "its digest belongs into a field of its own"
			d.image(name+":"+text(tag), at, "")
		case digest != "":
			d.image(name+"@"+digest, d.place(d.get(m, "digest")), digest)
		}
	}
	for _, key := range []string{"resources", "bases", "components"} {
		for _, r := range items(d.get(part, key)) {
			d.remoteBase(r)
		}
	}
}

// remoteBase judges a base that kustomize fetches with git.
func (d *documents) remoteBase(n *yaml.Node) {
	n = target(n)
	if n == nil || !strings.Contains(text(n), "://") && !strings.HasPrefix(text(n), "github.com/") {
		return
	}
	_, query, _ := strings.Cut(text(n), "?")
	ref := ""
	for pair := range strings.SplitSeq(query, "&") {
		if key, value, _ := strings.Cut(pair, "="); key == "ref" || key == "version" {
			ref = value
		}
	}
	if strings.Contains(text(n), "/releases/download/") && ref == "" {
		return // a file of a release, not a branch
	}
	d.gitRef("base "+text(n), ref, d.place(n))
}

// values judges the values of a Helm chart, where images are by convention
// mappings of repository, tag and pullPolicy.
func (d *documents) values(part *yaml.Node) {
	d.each(part, func(m *yaml.Node) {
		repository, tag := d.get(m, "repository"), d.get(m, "tag")
		if text(repository) == "" || tag == nil || strings.Contains(text(repository), "://") {
			return
		}
		name := text(repository)
		if host := text(d.get(m, "registry")); host != "" {
			name = host + "/" + name
		}
		digest := d.get(m, "digest")
		if text(tag) == "" && text(digest) == "" {
			return // the chart's appVersion
		}
		at := d.place(tag)
		at.offset, at.why = -1, "its tag stands in a field of its own"
		whole := name
		if text(tag) != "" {
			whole += ":" + text(tag)
		}
		if text(digest) != "" {
			whole += "@" + text(digest)
		}
		v := d.image(whole, at, text(tag))
		policy := d.get(m, "pullPolicy")
		d.policy(v, &yaml.Node{Kind: yaml.ScalarNode, Value: whole, Line: tag.Line, Column: tag.Column}, text(policy), policy)
	})
}

// gitRef judges the revision of another repository that is used, and returns
// what it reported, nil if that is nothing.
func (s *source) gitRef(what, ref string, at position) *Finding {
	switch {
	case strings.Contains(ref, "$") || strings.Contains(ref, "{{"):
		return nil
	case ref == "":
		return s.report(ciRefFloating, at, "%.200s names no revision, and is what its branch has on the day: write the commit", what)
	case len(ref) >= 40 && hexadecimal(ref):
		return nil
	case exactVersion(ref):
		return s.report(ciCommitMissing, at, "%.200s is at tag %s, which can be moved: write the commit, with the version in a comment", what, ref)
	}
	return s.report(ciRefFloating, at, "%.200s is at %s, a branch or partial version that moves: write the commit, with the version in a comment", what, fmt.Sprintf("%.100q", ref))
}
