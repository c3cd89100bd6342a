package release_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/upgrade/release"
	"github.com/perennial-go/perennial/upgrade/upgradetest"
)

// nginx finds the real server: $PERENNIAL_NGINX, or in the places where a
// distribution puts it, which are not on everybody's PATH.
func nginx(t *testing.T) string {
	t.Helper()
	for _, name := range []string{os.Getenv("PERENNIAL_NGINX"), "nginx", "/usr/sbin/nginx"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("it wants the real nginx, which is not here: apt-get install --no-install-recommends nginx-light, or set PERENNIAL_NGINX to it")
	return ""
}

// overNginx serves dir by nginx in the foreground, with one worker.
func overNginx(t *testing.T, dir string) release.Source {
	t.Helper()
	program, prefix := nginx(t), t.TempDir()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(prefix, "nginx.conf")
	text := fmt.Sprintf(`daemon off; pid %[1]s/pid; error_log stderr; master_process off;
events {}
http {
	access_log off; sendfile on; keepalive_timeout 0;
	client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
	server { listen %[2]s; root %[3]s; }
}
`, prefix, address, dir)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-p", prefix, "-e", "stderr", "-c", config)
	output := new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("nginx said:\n%s", output)
		}
	})
	waittest.Nil(t, "nginx serves", func() error {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
		if err != nil {
			return err
		}
		return conn.Close()
	})
	source, err := release.NewSource("http://joe:" + upgradetest.Password + "@" + strings.TrimPrefix(address, "http://"))
	return must(t, source, err)
}
