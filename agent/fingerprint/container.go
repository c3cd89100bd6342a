package fingerprint

import (
	"cmp"
	"path"
	"strings"

	"github.com/perennial-go/perennial/internal/cgroup"
	"github.com/perennial-go/perennial/internal/ident"
)

// The makers of containers.
const (
	docker     = "docker"
	podman     = "podman"
	containerd = "containerd"
	crio       = "cri-o"
	lxc        = "lxc"
	nspawn     = "systemd-nspawn"
	other      = "other"
)

// hint is what one trace of a container tells.
type hint struct{ maker, id, orchestrator string }

// container looks for traces of a container, the surest first. What one does not
// tell, the next may.
func (p *prober) container() {
	mounts := p.read("proc/self/mountinfo", maxFile)
	groups := p.read("proc/self/cgroup", maxFile)
	for _, h := range []hint{p.containerenv(), groupHint(groups), mountHint(mounts), p.markHint()} {
		if p.Container == "" || p.Container == other {
			p.Container = h.maker
		}
		if p.ContainerID == "" {
			p.ContainerID = h.id
		}
		if p.Orchestrator == "" {
			p.Orchestrator = h.orchestrator
		}
	}
	if p.Container == "" && p.ContainerID != "" {
		p.Container = other
	}
	p.Orchestrator = p.orchestrator(groups)
}

// containerenv reads what Podman writes into its containers. CRI-O leaves an
// empty file.
func (p *prober) containerenv() hint {
	told := assignments(p.read("run/.containerenv", maxFile))
	if !strings.HasPrefix(told["engine"], podman) {
		if p.exists("run/.containerenv") {
			return hint{maker: other}
		}
		return hint{}
	}
	p.setImage(told["image"])
	return hint{maker: podman, id: text(told["id"])}
}

// groupHint reads /proc/self/cgroup, whose paths name the container unless the
// container has a namespace of its own for them.
func groupHint(data []byte) (h hint) {
	for line := range strings.Lines(string(data)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		parent := ""
		for s := range strings.SplitSeq(parts[2], "/") {
			h.segment(parent, s)
			parent = s
		}
	}
	return h
}

// segment takes what one part of the path of a group tells, below parent.
func (h *hint) segment(parent, s string) {
	name := strings.TrimSuffix(s, ".scope")
	set := func(maker, id string) {
		if ident.SHA256(id) {
			h.maker, h.id = maker, id
		}
	}
	for prefix, maker := range map[string]string{"docker-": docker, "cri-containerd-": containerd, "crio-": crio, "libpod-": podman} {
		if id, ok := strings.CutPrefix(name, prefix); ok {
			set(maker, id)
		}
	}
	switch {
	case parent == "docker":
		set(docker, s)
	case parent == "lxc" || strings.HasPrefix(s, "lxc.payload"):
		h.maker = lxc
	case strings.HasPrefix(s, "kubepods"):
		h.orchestrator = kubernetes
	case s == "ecs" && parent == "":
		h.orchestrator = ecs
	case s == nomad || s == "nomad.slice":
		h.orchestrator = nomad
	case h.id == "" && ident.SHA256(name): // as under kubepods
		h.id = name
	}
}

// mountHint reads /proc/self/mountinfo: runtimes lay files of their own over some
// of a container's, and the layers of its image under its root.
func mountHint(data []byte) (h hint) {
	for m := range cgroup.Mounts(data) {
		switch m.Point {
		case "/":
			if m.Type == "overlay" {
				h.layers(m.Options)
			}
		case "/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/dev/termination-log":
			h.file(m.Root)
		}
	}
	return h
}

// layers takes what the options of an overlay tell of whose layers they are.
func (h *hint) layers(options string) {
	if h.maker != "" {
		return
	}
	switch {
	case strings.Contains(options, "/docker/overlay2/"):
		h.maker = docker
	case strings.Contains(options, "/io.containerd.snapshotter."):
		h.maker = containerd
	case strings.Contains(options, "/containers/storage/overlay/"):
		h.maker = other // Podman or CRI-O
	}
}

// file takes what tells the place of a file that was laid over a container's.
func (h *hint) file(root string) {
	dir := path.Dir(root)
	above := path.Dir(dir)
	switch id := path.Base(dir); {
	case strings.HasSuffix(above, "/docker/containers") && ident.SHA256(id):
		h.maker, h.id = docker, id
	case strings.HasSuffix(above, "/io.containerd.grpc.v1.cri/sandboxes"):
		h.maker, h.orchestrator = containerd, kubernetes // the id is that of the pod
	case strings.Contains(root, "/kubelet/pods/"):
		h.orchestrator = kubernetes
	case path.Base(above) != "overlay-containers" && path.Base(path.Dir(above)) == "overlay-containers":
		if id := path.Base(above); ident.SHA256(id) { // …/overlay-containers/<id>/userdata/hostname
			h.id = id
		}
	}
}

// markHint takes what says only that there is a container, and at best whose.
func (p *prober) markHint() hint {
	if p.exists(".dockerenv") {
		return hint{maker: docker}
	}
	name := p.env("container") // by the container interface of systemd
	if name == "" {
		name = string(p.read("run/systemd/container", maxFile))
	}
	switch name = text(name); {
	case name == "":
		return hint{}
	case name == docker || name == podman || name == nspawn:
		return hint{maker: name}
	case strings.HasPrefix(name, lxc):
		return hint{maker: lxc}
	}
	return hint{maker: other}
}

// The orchestrators.
const (
	kubernetes = "kubernetes"
	nomad      = "nomad"
	ecs        = "ecs"
	systemd    = "systemd"
)

// orchestrator tells what keeps the process running.
func (p *prober) orchestrator(groups []byte) string {
	switch {
	case p.env("KUBERNETES_SERVICE_HOST") != "" || p.exists("var/run/secrets/kubernetes.io"):
		return kubernetes
	case p.env("NOMAD_ALLOC_ID") != "":
		return nomad
	case p.env(ecsVariable) != "":
		return ecs
	case p.Orchestrator != "":
		return p.Orchestrator
	}
	if p.Container != "" {
		return ""
	}
	for line := range strings.Lines(string(groups)) {
		if strings.HasSuffix(strings.TrimSpace(line), ".service") {
			return systemd
		}
	}
	return ""
}

// image takes what whoever started the container says that it is made of.
func (p *prober) image() { p.setImage(p.givenImage()) }

// givenImage is what they say; empty = nothing.
func (p *prober) givenImage() string { return cmp.Or(p.cfg.Image, p.env(imageVariable)) }

// setImage takes the reference of the image and, if it has one, its digest.
func (f *Fingerprint) setImage(reference string) {
	if reference = text(reference); reference == "" || strings.Contains(reference, " ") {
		return
	}
	f.Image = reference
	if _, digest, ok := strings.Cut(reference, "@"); ok {
		f.setDigest(digest)
	}
}

// setDigest takes the digest of the image's manifest.
func (f *Fingerprint) setDigest(digest string) {
	if hex, ok := strings.CutPrefix(digest, "sha256:"); ok && ident.SHA256(hex) {
		f.ImageDigest = digest
	}
}
