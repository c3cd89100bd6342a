// ociregistry serves the registry of go-containerregistry, with its
// referrers API, in memory. It is built outside of this module: see .ci/run.
package main

import (
	"fmt"
	"log"
	"net"
	"net/http"

	"github.com/google/go-containerregistry/pkg/registry"
)

func main() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("serving on", l.Addr())
	log.Fatal(http.Serve(l, registry.New(registry.WithReferrersSupport(true))))
}
