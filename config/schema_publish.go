package config

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/etcdkv"
)

const (
	// maxSchemas and maxSchemasBytes bound what Schemas reads.
	maxSchemas      = 1000
	maxSchemasBytes = 64 << 20
)

func schemaPrefix(root string) string { return etcdkv.CleanRoot(root) + "config-schema/" }

// PublishSchema makes schema known to those who publish documents, and returns
// its digest. It lies under its digest, and is written only where it is not
// there yet: agents of one release share one key, which outlives them.
func PublishSchema(ctx context.Context, client *clientv3.Client, root string, schema []byte) (digest string, err error) {
	if len(schema) > MaxSchemaBytes {
		return "", fmt.Errorf("config schema: it has %d bytes: want at most %d", len(schema), MaxSchemaBytes)
	}
	digest = SchemaDigest(schema)
	key := schemaPrefix(root) + digest
	// A read first: ten thousand agents that start with one release are to
	// write once, and a transaction goes through etcd's log even if it does not
	// write.
	found, err := client.Get(ctx, key, clientv3.WithCountOnly())
	if err != nil {
		return "", unread(client, key, err)
	}
	if found.Count > 0 {
		return digest, nil
	}
	_, err = client.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).
		Then(clientv3.OpPut(key, string(schema))).
		Commit()
	if err != nil {
		return "", unwritten(client, key, len(schema), err)
	}
	return digest, nil
}

// ReadSchema returns the schema with that digest, which it checks. The error
// wraps ErrNotFound if there is none.
func ReadSchema(ctx context.Context, client *clientv3.Client, root, digest string) (*Schema, error) {
	key := schemaPrefix(root) + digest
	if !isDigest(digest) {
		return nil, fmt.Errorf("%w: digest %.80q: want a SHA-256 in lower-case hex", ErrSchema, digest)
	}
	r, err := client.Get(ctx, key)
	if err != nil {
		return nil, unread(client, key, err)
	}
	if len(r.Kvs) == 0 {
		return nil, fmt.Errorf("%w: %s is not in etcd", ErrNotFound, key)
	}
	return readSchema(key, digest, r.Kvs[0].Value)
}

func readSchema(key, digest string, data []byte) (*Schema, error) {
	if found := SchemaDigest(data); found != digest {
		return nil, fmt.Errorf("%w: %s holds something else, of digest %s: delete the key, an agent writes it again when it registers", ErrSchema, key, found)
	}
	s, err := ParseSchema(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return s, nil
}

func isDigest(s string) bool {
	_, err := hex.DecodeString(s)
	return err == nil && len(s) == 64 && strings.ToLower(s) == s
}

// Found are the schemas below one root.
type Found struct {
	// Schemas are in the order of their digests.
	Schemas []*Schema
	// Damaged is how many keys hold none, and Example what is wrong with one of
	// them.
	Damaged int
	Example error
}

func (f *Found) damage(format string, args ...any) {
	f.Damaged++
	f.Example = fmt.Errorf(format, args...)
}

// Schemas returns the schemas that were published, also those of agents that
// are gone. Of the keys it looks at 1,000, of their values at 64 MiB.
func Schemas(ctx context.Context, client *clientv3.Client, root string) (Found, error) {
	var f Found
	prefix := schemaPrefix(root)
	keys, err := client.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly(), clientv3.WithLimit(maxSchemas))
	if err != nil {
		return f, unread(client, prefix, err)
	}
	size := 0
	for _, kv := range keys.Kvs {
		key := string(kv.Key)
		digest := strings.TrimPrefix(key, prefix)
		if !isDigest(digest) {
			f.damage("%.200q is no schema", key)
			continue
		}
		r, err := client.Get(ctx, key)
		if err != nil {
			return f, unread(client, key, err)
		}
		if len(r.Kvs) == 0 {
			continue // deleted since
		}
		if size += len(r.Kvs[0].Value); size > maxSchemasBytes {
			f.damage("the schemas below %s have more than %d bytes: delete what is no longer in use", prefix, maxSchemasBytes)
			return f, nil
		}
		s, err := readSchema(key, digest, r.Kvs[0].Value)
		if err != nil {
			f.damage("%w", err)
			continue
		}
		f.Schemas = append(f.Schemas, s)
	}
	if keys.More {
		f.damage("%s has %d keys, of which %d were looked at: delete what is no longer in use", prefix, keys.Count, maxSchemas)
	}
	return f, nil
}
