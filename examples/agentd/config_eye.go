package main

import (
	"bytes"
	"crypto/rand"
	"fmt"

	"github.com/aymanbagabas/go-udiff"
	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/config"
)

// eye is what may be seen of documents: what no schema that was ever published
// calls a secret, unless all is asked for. The schemas of agents that are gone
// count as well, so that nothing shows because an agent happens to be down.
type eye struct{ config.Redaction }

const showSecretsHelp = "show the values of secret fields, and of fields that no agent knows, as well"

// eye reads the schemas, and says where for want of them nothing can be shown.
func (c *configFlags) eye(cmd *cobra.Command, client *clientv3.Client, all bool) (*eye, error) {
	if all {
		return &eye{config.Redaction{Off: true}}, nil
	}
	found, err := c.schemas(cmd, client)
	if err == nil && len(found.Schemas) == 0 {
		_, _ = fmt.Fprintln(cmd.ErrOrStderr(), "note: no agent has published its schema yet, so every value is hidden, as it may be a secret: show them with --show-secrets")
	}
	return &eye{config.Redaction{Schemas: found.Schemas}}, err
}

// see returns the document as it may be shown, with a newline at its end.
func (e *eye) see(document []byte) ([]byte, error) {
	document, err := e.Document(document)
	if err != nil {
		return nil, fmt.Errorf("the document is damaged, and what of it is secret cannot be told (%w): show it as it is with --show-secrets", err)
	}
	if len(document) > 0 && !bytes.HasSuffix(document, []byte{'\n'}) {
		document = append(bytes.Clone(document), '\n')
	}
	return document, nil
}

// labelled is one of the two that a diff compares.
type labelled struct {
	label string
	text  []byte // nil = there is no document
}

// diff returns what differs between two documents, in the unified format;
// hidden values that differ are told apart by a tag.
func (e *eye) diff(old, next labelled) (string, error) {
	tagged := *e
	tagged.Key = []byte(rand.Text())
	var texts [2]string
	for i, s := range []labelled{old, next} {
		if s.text == nil {
			continue
		}
		text, err := tagged.see(s.text)
		if err != nil {
			return "", fmt.Errorf("%s: %w", s.label, err)
		}
		texts[i] = string(text)
	}
	return unified(old.label, next.label, texts[0], texts[1])
}

// unified is the diff of two texts. The library counts the lines of the second
// wrong after two changes that are close to each other (v0.4.1).
func unified(oldLabel, newLabel, before, after string) (string, error) {
	d, err := udiff.ToUnifiedDiff(oldLabel, newLabel, before, udiff.Lines(before, after), udiff.DefaultContextLines)
	if err != nil {
		return "", err
	}
	grown := 0 // lines, by the hunks before
	for _, h := range d.Hunks {
		h.ToLine = h.FromLine + grown
		for _, l := range h.Lines {
			switch l.Kind {
			case udiff.Insert:
				grown++
			case udiff.Delete:
				grown--
			case udiff.Equal:
			}
		}
	}
	return d.String(), nil
}
