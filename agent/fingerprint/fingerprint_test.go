package fingerprint

import (
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// machine is a directory of files, as a host or a container has them.
func machine(t *testing.T, files map[string]string) *prober {
	t.Helper()
	// The path of a socket may have 108 bytes: t.TempDir's is long.
	root, err := os.MkdirTemp("", "fp") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	for name, data := range files {
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return &prober{root: root, env: func(string) string { return "" }}
}

func (p *prober) with(env map[string]string) *prober {
	p.env = func(name string) string { return env[name] }
	return p
}

func id(c string) string { return strings.Repeat(c, 64) }

const (
	overlay = "700 600 0:50 / / rw,relatime - overlay overlay rw,lowerdir=LAYERS,upperdir=x\n"
	group2  = "40 30 0:27 / /sys/fs/cgroup ro - cgroup2 cgroup rw\n"
	group1  = "41 30 0:28 / /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
)

func over(layers string) string { return strings.Replace(overlay, "LAYERS", layers, 1) }

func laid(root, point string) string {
	return "710 700 8:1 " + root + " " + point + " rw - ext4 /dev/sda1 rw\n"
}

// TestContainerIsKnownByTheTracesOfItsMaker has those that each leaves, cgroups of
// its own namespace and of the host's.
func TestContainerIsKnownByTheTracesOfItsMaker(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		env   map[string]string
		want  Fingerprint
	}{
		"host, a service": {
			files: map[string]string{"proc/self/cgroup": "0::/system.slice/agentd.service\n", "proc/self/mountinfo": group2 + laid("/", "/")},
			want:  Fingerprint{Cgroup: "v2", Orchestrator: "systemd"},
		},
		"host of Docker, by hand": {
			files: map[string]string{"proc/self/cgroup": "0::/user.slice/user-0.slice/session-1.scope\n", "proc/self/mountinfo": group2 + "9 8 0:50 / /var/lib/docker/overlay2/a/merged rw - overlay overlay rw,lowerdir=/var/lib/docker/overlay2/l/A\n"},
			want:  Fingerprint{Cgroup: "v2"},
		},
		"docker, cgroup v2 of its own": {
			files: map[string]string{"proc/self/cgroup": "0::/\n", "proc/self/mountinfo": over("/var/lib/docker/overlay2/l/A") + group2 + laid("/var/lib/docker/containers/"+id("a")+"/hostname", "/etc/hostname")},
			want:  Fingerprint{Cgroup: "v2", Container: "docker", ContainerID: id("a")},
		},
		"docker, cgroup v1": {
			files: map[string]string{"proc/self/cgroup": "5:memory:/docker/" + id("b") + "\n0::/docker/" + id("b") + "\n", "proc/self/mountinfo": group1},
			want:  Fingerprint{Cgroup: "v1", Container: "docker", ContainerID: id("b")},
		},
		"docker, systemd's cgroups": {
			files: map[string]string{"proc/self/cgroup": "0::/system.slice/docker-" + id("c") + ".scope\n", "proc/self/mountinfo": group1 + group2},
			want:  Fingerprint{Cgroup: "hybrid", Container: "docker", ContainerID: id("c")},
		},
		"docker that left a mark": {files: map[string]string{".dockerenv": ""}, want: Fingerprint{Container: "docker"}},
		"podman": {
			files: map[string]string{"run/.containerenv": "engine=\"podman-4.3.1\"\nname=\"web\"\nid=\"" + id("d") + "\"\nimage=\"docker.io/library/app:1.2.0@sha256:" + id("e") + "\"\nimageid=\"" + id("f") + "\"\nrootless=1\n", ".dockerenv": ""},
			want:  Fingerprint{Container: "podman", ContainerID: id("d"), Image: "docker.io/library/app:1.2.0@sha256:" + id("e"), ImageDigest: "sha256:" + id("e")},
		},
		"podman, by its cgroup": {
			files: map[string]string{"proc/self/cgroup": "0::/user.slice/user-1000.slice/libpod-" + id("1") + ".scope/container\n"},
			want:  Fingerprint{Container: "podman", ContainerID: id("1")},
		},
		"kubernetes on containerd": {
			files: map[string]string{
				"proc/self/cgroup":                 "0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-" + id("2") + ".scope\n",
				"proc/self/mountinfo":              over("/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/1/fs") + laid("/var/lib/kubelet/pods/p/etc-hosts", "/etc/hosts"),
				"var/run/secrets/kubernetes.io/ca": "",
			},
			env:  map[string]string{"PERENNIAL_IMAGE": "registry.example/app:1.2.0@sha256:" + id("3")},
			want: Fingerprint{Container: "containerd", ContainerID: id("2"), Orchestrator: "kubernetes", Image: "registry.example/app:1.2.0@sha256:" + id("3"), ImageDigest: "sha256:" + id("3")},
		},
		"kubernetes on containerd, cgroups of its own": {
			files: map[string]string{"proc/self/cgroup": "0::/\n", "proc/self/mountinfo": over("/x") + laid("/var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes/"+id("4")+"/hostname", "/etc/hostname")},
			want:  Fingerprint{Container: "containerd", Orchestrator: "kubernetes"},
		},
		"kubernetes on cri-o": {
			files: map[string]string{"proc/self/cgroup": "0::/kubepods.slice/crio-" + id("5") + ".scope\n", "run/.containerenv": ""},
			want:  Fingerprint{Container: "cri-o", ContainerID: id("5"), Orchestrator: "kubernetes"},
		},
		"kubernetes, of who knows what": {
			files: map[string]string{"proc/self/cgroup": "4:memory:/kubepods/burstable/pod1/" + id("6") + "\n"},
			env:   map[string]string{"KUBERNETES_SERVICE_HOST": "10.0.0.1"},
			want:  Fingerprint{Container: "other", ContainerID: id("6"), Orchestrator: "kubernetes"},
		},
		"a service that is called so": {
			files: map[string]string{"proc/self/cgroup": "0::/system.slice/nomadic.service\n"}, want: Fingerprint{Orchestrator: "systemd"},
		},
		"its group": {files: map[string]string{"proc/self/cgroup": "0::/nomad.slice/a.scope\n"}, want: Fingerprint{Orchestrator: "nomad"}},
		"nomad":     {files: map[string]string{".dockerenv": ""}, env: map[string]string{"NOMAD_ALLOC_ID": "a"}, want: Fingerprint{Container: "docker", Orchestrator: "nomad"}},
		"lxc":       {files: map[string]string{"proc/self/cgroup": "0::/lxc.payload.web/init.scope\n"}, env: map[string]string{"container": "lxc-libvirt"}, want: Fingerprint{Container: "lxc"}},
		"nspawn":    {files: map[string]string{"run/systemd/container": "systemd-nspawn\n"}, want: Fingerprint{Container: "systemd-nspawn"}},
		"a name that is not one": {
			env:  map[string]string{"container": "\x1b[2J\n", "PERENNIAL_IMAGE": "two words"},
			want: Fingerprint{Container: "other"},
		},
		"looks at nothing": {files: map[string]string{".dockerenv": ""}, env: map[string]string{"off": "yes"}, want: Fingerprint{}},
	} {
		p := machine(t, c.files).with(c.env)
		p.cfg.Off = c.env["off"] != ""
		if got := p.probe(t.Context()); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s:\n%+v, want\n%+v", name, got, c.want)
		}
	}
}

func TestHostIsKnownByItsFiles(t *testing.T) {
	banner := strings.Repeat("\x00", 4096) + "GNU C Library (Debian GLIBC 2.36-9+deb12u7) stable release version 2.36.\nCopyright"
	for name, c := range map[string]struct {
		files map[string]string
		want  Fingerprint
	}{
		"debian": {
			map[string]string{"proc/sys/kernel/osrelease": "6.1.0-18-amd64\n", "etc/os-release": "PRETTY_NAME=\"Debian\"\nID=debian\nVERSION_ID=\"12\"\n", "lib/x86_64-linux-gnu/libc.so.6": banner},
			Fingerprint{Kernel: "6.1.0-18-amd64", OS: "debian 12", Libc: "glibc 2.36"},
		},
		"alpine": {
			map[string]string{"usr/lib/os-release": "ID=alpine\nVERSION_ID=3.20.1\n", "lib/ld-musl-x86_64.so.1": "\x7fELF", "lib/apk/db/installed": "P:busybox\nV:1.36\n\nP:musl\nA:x86_64\nV:1.2.5-r0\n\nP:zlib\nV:1\n"},
			Fingerprint{OS: "alpine 3.20.1", Libc: "musl 1.2.5-r0"},
		},
		"no image of a system at all": {map[string]string{"agent": ""}, Fingerprint{}},
		"runc that is no Go program":  {map[string]string{"usr/sbin/runc": "#!/bin/sh\ntouch ran\n"}, Fingerprint{Runc: "unknown"}},
	} {
		p := machine(t, c.files)
		if got := p.probe(t.Context()); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
		if p.exists("ran") {
			t.Errorf("%s: it was run", name)
		}
	}
}

// TestRuncTellsItsVersionWithoutBeingRun builds a program as runc is built.
func TestRuncTellsItsVersionWithoutBeingRun(t *testing.T) {
	p := machine(t, map[string]string{"src/main.go": "package main\n\nvar version string\n\nfunc main() { panic(version) }\n", "src/go.mod": "module runc\n", "usr/sbin/x": ""})
	build := exec.CommandContext(t.Context(), "go", "build", "-ldflags", "-X main.version=1.1.12+dev", "-o", filepath.Join(p.root, "usr/sbin/runc"), ".")
	build.Dir = filepath.Join(p.root, "src")
	build.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if f := p.probe(t.Context()); f.Runc != "1.1.12+dev" {
		t.Errorf("runc is %q", f.Runc)
	}
}

// FuzzFilesOfAMachine: whoever made the image wrote them.
func FuzzFilesOfAMachine(f *testing.F) {
	f.Add("0::/kubepods/docker-"+id("a")+".scope\n", over("/docker/overlay2/")+group1, "ID=a\nVERSION_ID='1'\n", "a:1@sha256:"+id("b"))
	f.Add("0::/lxc/\n", laid("/containers/storage/overlay-containers/"+id("a")+"/userdata/hostname", "/etc/hostname"), "=", "\xff@")
	f.Fuzz(func(t *testing.T, groups, mounts, release, image string) {
		h := groupHint([]byte(groups))
		m := mountHint([]byte(mounts))
		var made Fingerprint
		made.setImage(image)
		for _, s := range []string{text(h.maker), h.id, m.id, made.Image, text(assignments([]byte(release))["ID"])} {
			if len(s) > maxText || !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
				t.Errorf("%q is told", s)
			}
		}
		if d := made.ImageDigest; d != "" && len(d) != len("sha256:")+64 {
			t.Errorf("digest %q", d)
		}
		hierarchies([]byte(mounts))
		_, _ = textOf([]byte(groups), containerdMember)
		glibcVersion([]byte(mounts))
		apkVersion([]byte(release), "musl")
	})
}
