package fingerprint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/perennial-go/perennial/internal/boundedio"
)

const (
	// maxAnswer bounds one answer of a runtime, in bytes; maxHeader its header.
	maxAnswer = 256 << 10
	maxHeader = 16 << 10
	// ecsVariable says where a container of ECS can ask about itself.
	ecsVariable = "ECS_CONTAINER_METADATA_URI_V4"
)

// runtime is one that may be there.
type runtime struct {
	name    string
	sockets []string
	ask     func(*prober, context.Context, *runtime, string) (version string, err error)
}

// runtimes are those that are known. Of several sockets the first counts that
// there is.
func (p *prober) runtimes() []runtime {
	dockers := []string{"/run/docker.sock", "/var/run/docker.sock"}
	podmans := []string{"/run/podman/podman.sock"}
	if own := p.env("XDG_RUNTIME_DIR"); filepath.IsAbs(own) {
		dockers, podmans = append(dockers, own+"/docker.sock"), append(podmans, own+"/podman/podman.sock")
	}
	for variable, sockets := range map[string]*[]string{"DOCKER_HOST": &dockers, "CONTAINER_HOST": &podmans} {
		if path, ok := strings.CutPrefix(p.env(variable), "unix://"); ok && filepath.IsAbs(path) {
			*sockets = append([]string{path}, *sockets...)
		}
	}
	return []runtime{
		{docker, dockers, (*prober).askDocker},
		{podman, podmans, (*prober).askDocker},
		{containerd, []string{"/run/containerd/containerd.sock", "/run/k3s/containerd/containerd.sock"}, (*prober).askContainerd},
		{crio, []string{"/run/crio/crio.sock", "/var/run/crio/crio.sock"}, (*prober).askCRI},
	}
}

// askRuntimes asks all at once.
func (p *prober) askRuntimes(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	for _, r := range p.runtimes() {
		socket := p.socket(r.sockets)
		if socket == "" {
			continue
		}
		all.Go(func() {
			version, err := r.ask(p, ctx, &r, filepath.Join(p.root, socket))
			if err == nil && text(version) == "" {
				err = errors.New("it tells no version")
			}
			if err != nil {
				p.unknown(r.name+" at "+socket, reason(err))
				return
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			p.Runtimes = append(p.Runtimes, Runtime{Name: r.name, Version: text(version), Socket: text(socket)})
		})
	}
}

// socket is the first of paths that is one.
func (p *prober) socket(paths []string) string {
	for _, path := range paths {
		if info, err := os.Stat(filepath.Join(p.root, path)); err == nil && info.Mode().Type() == fs.ModeSocket {
			return path
		}
	}
	return ""
}

// reason is err without the addresses that its message repeats.
func reason(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	if asked, ok := errors.AsType[*url.Error](err); ok {
		return asked.Err
	}
	return err
}

// askDocker asks what speaks Docker's protocol, which Podman does as well.
func (p *prober) askDocker(ctx context.Context, r *runtime, socket string) (string, error) {
	client, end := overSocket(socket)
	defer end()
	var told struct {
		Version    string
		Components []struct{ Name, Version string }
	}
	if err := get(ctx, client, "http://localhost/version", &told); err != nil {
		return "", err
	}
	for _, c := range told.Components {
		switch c.Name {
		case "Podman Engine": // whatever the socket is called
			r.name = podman
		case "runc":
			p.mu.Lock()
			p.Runc = text(c.Version)
			p.mu.Unlock()
		}
	}
	p.inspect(ctx, client, r.name)
	return told.Version, nil
}

// inspect asks for the image of the container that this process is in.
func (p *prober) inspect(ctx context.Context, client *http.Client, runtime string) {
	if p.Container != runtime || p.ContainerID == "" || p.givenImage() != "" {
		return
	}
	var container struct {
		Image  string
		Config struct{ Image string }
	}
	var image struct{ RepoDigests []string }
	err := get(ctx, client, "http://localhost/containers/"+url.PathEscape(p.ContainerID)+"/json", &container)
	if err == nil {
		err = get(ctx, client, "http://localhost/images/"+url.PathEscape(container.Image)+"/json", &image)
	}
	if err != nil {
		p.unknown("image", reason(err))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.setImage(container.Config.Image)
	repository, _, _ := strings.Cut(container.Config.Image, "@")
	if i := strings.LastIndexByte(repository, ':'); i > strings.LastIndexByte(repository, '/') {
		repository = repository[:i] // what follows is the tag, and no port
	}
	for _, d := range image.RepoDigests {
		if name, digest, _ := strings.Cut(d, "@"); p.ImageDigest == "" || name == repository {
			p.setDigest(digest)
		}
	}
}

// overSocket is a client of HTTP for a socket.
func overSocket(socket string) (client *http.Client, end func()) {
	t := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
		MaxResponseHeaderBytes: maxHeader,
	}
	return &http.Client{Transport: t, CheckRedirect: stay}, t.CloseIdleConnections
}

// stay follows nowhere.
func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// get decodes one answer, as JSON.
func get(ctx context.Context, client *http.Client, address string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return err
	}
	res, err := client.Do(req) //nolint:bodyclose // boundedio.ReadAll closes it
	if err != nil {
		return err
	}
	data, err := boundedio.ReadAll(res.Body, res.ContentLength, maxAnswer)
	switch {
	case err != nil:
		return err
	case res.StatusCode != http.StatusOK:
		return fmt.Errorf("it answers %d", res.StatusCode)
	}
	return json.Unmarshal(data, into)
}

// askECS asks what ECS offers its containers, at the address that it gave them.
// Another than the host's own, or the link's, is not asked: it came from the
// environment.
func (p *prober) askECS(ctx context.Context) {
	address := p.env(ecsVariable)
	if address == "" || p.ImageDigest != "" {
		return
	}
	at, err := url.Parse(address)
	if err != nil {
		return
	}
	ip, err := netip.ParseAddr(at.Hostname())
	if err != nil || at.Scheme != "http" || !ip.IsLinkLocalUnicast() && !ip.IsLoopback() {
		p.unknown(ecs, errors.New("want an address of the link in "+ecsVariable))
		return
	}
	var told struct{ DockerID, Image, ImageID string }
	t := &http.Transport{MaxResponseHeaderBytes: maxHeader}
	defer t.CloseIdleConnections()
	if err := get(ctx, &http.Client{Transport: t, CheckRedirect: stay}, address, &told); err != nil {
		p.unknown(ecs, reason(err))
		return
	}
	p.setImage(told.Image)
	p.setDigest(told.ImageID)
	if p.ContainerID == "" {
		p.ContainerID = text(told.DockerID)
	}
}
