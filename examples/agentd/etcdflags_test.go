package main

import (
	"os"
	"testing"
)

// TestWrongEtcdFilesAreNamed: what is wrong with them shows when the client
// is made, before anything waits for etcd.
func TestWrongEtcdFilesAreNamed(t *testing.T) {
	text := writeFile(t, "no certificate")
	secure := []string{"https://127.0.0.1:1"}
	for name, e := range map[string]etcdFlags{
		"authorities that are no PEM":   {endpoints: secure, ca: text},
		"authorities that are absent":   {endpoints: secure, ca: text + "x"},
		"certificate that is no PEM":    {endpoints: secure, cert: text, key: text},
		"certificate without a key":     {endpoints: secure, cert: text},
		"password that is absent":       {endpoints: secure, user: "a", passwordFile: text + "x"},
		"password without a user":       {endpoints: secure, passwordFile: text},
		"user without a password":       {endpoints: secure, user: "a"},
		"authorities for plain traffic": {endpoints: []string{"http://127.0.0.1:1"}, ca: text},
	} {
		if c, err := e.client(); err == nil {
			t.Errorf("%s: accepted", name)
			_ = c.Close()
		}
	}
	shared := writeFile(t, "secret\n")
	if err := os.Chmod(shared, 0o640); err != nil {
		t.Fatal(err)
	}
	if c, err := (&etcdFlags{endpoints: secure, user: "a", passwordFile: shared}).client(); err == nil {
		t.Error("a password that others can read is accepted")
		_ = c.Close()
	}
}
