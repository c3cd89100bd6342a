package fingerprint

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/emptypb"
)

// listen opens a socket of the machine.
func (p *prober) listen(t *testing.T, path string) net.Listener {
	t.Helper()
	path = filepath.Join(p.root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// speaksHTTP has a real server answer on a socket.
func (p *prober) speaksHTTP(t *testing.T, path string, h http.HandlerFunc) {
	t.Helper()
	s := &httptest.Server{Listener: p.listen(t, path), Config: &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}}
	s.Start()
	t.Cleanup(s.Close)
}

// speaksGRPC has a real server answer method with members of a message.
func (p *prober) speaksGRPC(t *testing.T, path, method string, members ...string) {
	t.Helper()
	s := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		if called, _ := grpc.MethodFromServerStream(stream); called != method {
			return status.Error(codes.Unimplemented, "unknown method "+called)
		}
		if err := stream.RecvMsg(&emptypb.Empty{}); err != nil {
			return err
		}
		var answer emptypb.Empty
		var data []byte
		for i, m := range members {
			data = protowire.AppendString(protowire.AppendTag(data, protowire.Number(i+1), protowire.BytesType), m)
		}
		answer.ProtoReflect().SetUnknown(data)
		return stream.SendMsg(&answer)
	}))
	l := p.listen(t, path)
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { s.Stop(); <-done })
}

// What the programs answer; the rest of it was left out.
const (
	dockerAnswer = `{"Platform":{"Name":"Docker Engine - Community"},"Version":"24.0.5","ApiVersion":"1.43","Components":[{"Name":"Engine","Version":"24.0.5"},{"Name":"containerd","Version":"1.6.21"},{"Name":"runc","Version":"1.1.7"}],"Os":"linux"}`
	podmanAnswer = `{"Platform":{"Name":"linux/amd64/debian-12"},"Components":[{"Name":"Podman Engine","Version":"4.3.1"},{"Name":"OCI Runtime (crun)","Version":"crun version 1.8.1"}],"Version":"4.3.1","ApiVersion":"1.41"}`
)

func TestRuntimesTellTheirVersionsOnTheirSockets(t *testing.T) {
	t.Parallel()
	p := machine(t, map[string]string{"proc/self/cgroup": "0::/system.slice/docker-" + id("a") + ".scope\n"})
	methods := make(chan string, 10)
	p.speaksHTTP(t, "run/docker.sock", func(w http.ResponseWriter, r *http.Request) {
		methods <- r.Method
		switch r.URL.Path {
		case "/version":
			_, _ = io.WriteString(w, dockerAnswer)
		case "/containers/" + id("a") + "/json":
			_, _ = fmt.Fprintf(w, `{"Id":%q,"Image":"sha256:%s","Config":{"Image":"registry.example:5000/app:1.2.0"}}`, id("a"), id("b"))
		case "/images/sha256:" + id("b") + "/json":
			_, _ = fmt.Fprintf(w, `{"RepoDigests":["mirror/app@sha256:%s","registry.example:5000/app@sha256:%s","registry.example:5000/ap@sha256:%s"]}`, id("c"), id("d"), id("e"))
		default:
			http.NotFound(w, r)
		}
	})
	p.speaksHTTP(t, "run/podman/podman.sock", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, podmanAnswer) })
	p.speaksGRPC(t, "run/containerd/containerd.sock", containerdVersion, "1.7.2", "0cae528")
	p.speaksGRPC(t, "run/crio/crio.sock", criVersion, "0.1.0", "cri-o", "1.28.1", "v1")
	got := p.probe(t.Context())
	want := Fingerprint{
		Container: "docker", ContainerID: id("a"), Image: "registry.example:5000/app:1.2.0", ImageDigest: "sha256:" + id("d"), Runc: "1.1.7",
		Runtimes: []Runtime{
			{"containerd", "1.7.2", "/run/containerd/containerd.sock"}, {"cri-o", "1.28.1", "/run/crio/crio.sock"},
			{"docker", "24.0.5", "/run/docker.sock"}, {"podman", "4.3.1", "/run/podman/podman.sock"},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("\n%+v, want\n%+v", got, want)
	}
	close(methods)
	for m := range methods {
		if m != http.MethodGet {
			t.Errorf("it was asked with %s, which may change something", m)
		}
	}
}

// TestImageThatIsGivenIsNotMixedWithAnother: the digest would be that of the one,
// and the reference that of the other.
func TestImageThatIsGivenIsNotMixedWithAnother(t *testing.T) {
	t.Parallel()
	given := "registry.example/app:1.2.0@sha256:" + id("3")
	p := machine(t, map[string]string{"proc/self/cgroup": "0::/system.slice/docker-" + id("a") + ".scope\n"}).with(map[string]string{"PERENNIAL_IMAGE": given})
	p.speaksHTTP(t, "run/docker.sock", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/version" {
			_, _ = io.WriteString(w, dockerAnswer)
			return
		}
		_, _ = io.WriteString(w, `{"Image":"sha256:x","Config":{"Image":"other:1"},"RepoDigests":["other@sha256:`+id("c")+`"]}`)
	})
	if got := p.probe(t.Context()); got.Image != given || got.ImageDigest != "sha256:"+id("3") || len(got.Runtimes) != 1 {
		t.Errorf("%+v", got)
	}
}

func TestPodmanInThePlaceOfDockerIsNotTakenForIt(t *testing.T) {
	t.Parallel()
	p := machine(t, nil).with(map[string]string{"DOCKER_HOST": "unix:///tmp/p.sock"})
	p.speaksHTTP(t, "tmp/p.sock", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, podmanAnswer) })
	if got := p.probe(t.Context()).Runtimes; !slices.Equal(got, []Runtime{{"podman", "4.3.1", "/tmp/p.sock"}}) {
		t.Errorf("%+v", got)
	}
}

// TestWhatAnswersOnASocketCannotHoldUpOrFillTheAgent: whoever owns the socket says
// what it likes, for as long as it likes.
func TestWhatAnswersOnASocketCannotHoldUpOrFillTheAgent(t *testing.T) {
	t.Parallel()
	p := machine(t, map[string]string{"var/run/crio/crio.sock": "a file"})
	p.cfg.Timeout = 300 * time.Millisecond
	silent := p.listen(t, "run/containerd/containerd.sock")
	t.Cleanup(func() { _ = silent.Close() })
	p.speaksHTTP(t, "run/docker.sock", func(w http.ResponseWriter, _ *http.Request) {
		for chunk := []byte(strings.Repeat(" ", 1<<16)); ; {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	})
	p.speaksHTTP(t, "run/podman/podman.sock", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"Version":"`+strings.Repeat(`\u001b[2J4`, 100)+`"}`)
	})
	began := time.Now()
	f := p.probe(t.Context())
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %v, the limit is %v", took, p.cfg.Timeout)
	}
	if len(f.Unknown) != 2 || !strings.Contains(f.Unknown[0], "containerd at /run/containerd/containerd.sock: ") ||
		f.Unknown[1] != "docker at /run/docker.sock: too large: it has more than 262144 bytes" {
		t.Errorf("unknown: %q", f.Unknown)
	}
	if len(f.Runtimes) != 1 || len(f.Runtimes[0].Version) != maxText || strings.Contains(f.Runtimes[0].Version, "\x1b") {
		t.Errorf("runtimes: %+v", f.Runtimes)
	}
}

func TestAnswersThatAreNoneAreToldAsUnknown(t *testing.T) {
	t.Parallel()
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, dockerAnswer) }))
	t.Cleanup(elsewhere.Close)
	for name, h := range map[string]http.HandlerFunc{
		"it answers 403":            func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) },
		"it answers 302":            func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) },
		"it tells no version":       func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{}`) },
		"unexpected end":            func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"Version":`) },
		"cannot unmarshal":          func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"Version":["1"]}`) },
		"invalid character '<' loo": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `<html>`) },
	} {
		p := machine(t, nil)
		p.speaksHTTP(t, "run/docker.sock", h)
		f := p.probe(t.Context())
		if len(f.Runtimes) != 0 || len(f.Unknown) != 1 || !strings.Contains(f.Unknown[0], name) {
			t.Errorf("%s: %+v", name, f)
		}
	}
	p := machine(t, nil)
	p.speaksGRPC(t, "run/containerd/containerd.sock", "/another/Method")
	gone := p.listen(t, "run/docker.sock")
	gone.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = gone.Close()
	if f := p.probe(t.Context()); len(f.Runtimes) != 0 || !strings.Contains(fmt.Sprint(f.Unknown), "unknown method") || !strings.Contains(fmt.Sprint(f.Unknown), "connection refused") {
		t.Errorf("%+v", f)
	}
}

func TestSocketsAreLeftAloneWhereThatIsAskedFor(t *testing.T) {
	t.Parallel()
	p := machine(t, nil)
	p.cfg.NoSockets = true
	p.speaksHTTP(t, "run/docker.sock", func(http.ResponseWriter, *http.Request) { t.Error("it was asked") })
	if f := p.probe(t.Context()); !reflect.DeepEqual(f, Fingerprint{}) {
		t.Errorf("%+v", f)
	}
}

func TestECSIsAskedForTheImageAtItsOwnAddressOnly(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v4/x" {
			_, _ = fmt.Fprintf(w, `{"DockerId":"abc-1","Image":"1.dkr.ecr/app:1.2.0","ImageID":"sha256:%s"}`, id("a"))
		}
	}))
	t.Cleanup(s.Close)
	got := machine(t, nil).with(map[string]string{ecsVariable: s.URL + "/v4/x"}).probe(t.Context())
	if want := (Fingerprint{Orchestrator: "ecs", ContainerID: "abc-1", Image: "1.dkr.ecr/app:1.2.0", ImageDigest: "sha256:" + id("a")}); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	for _, elsewhere := range []string{"http://192.0.2.1/v4", "http://metadata.example/v4", "https://169.254.170.2/v4"} {
		ctx, cancel := context.WithCancel(t.Context())
		f := machine(t, nil).with(map[string]string{ecsVariable: elsewhere}).probe(ctx)
		cancel()
		if len(f.Unknown) != 1 || !strings.Contains(f.Unknown[0], "want an address of the link") {
			t.Errorf("%s: %+v", elsewhere, f)
		}
	}
}
