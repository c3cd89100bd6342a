package plugin

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/perennial-go/perennial/internal/atomicfile"
	"github.com/perennial-go/perennial/internal/ownership"
)

// ErrUnanswered is of a request that no host took up in time.
var ErrUnanswered = errors.New("no host answered")

const (
	askDir       = "ask"
	waitsSuffix  = ".json"
	takenSuffix  = ".taken"
	answerSuffix = ".answer"
	// answerLimit bounds an answer, in bytes: some KiB for each plugin.
	answerLimit = 16 << 20
	// askEvery is how often Ask looks for the answer.
	askEvery = 50 * time.Millisecond
	// askWait is how long Ask waits where its ctx has no deadline.
	askWait = time.Minute
)

// Ask has the Manager that runs on stateDir, its Config.StateDir, in whatever
// process, do r, and returns what List then gives there. It asks by a file, and
// so without network, as a user who owns the directory.
//
// It waits until ctx ends, or a minute where that has no deadline. A request
// that nobody has taken up by then is taken back, which is ErrUnanswered: it
// will not be done. One that was taken up goes on; whether it was done, a later
// ActionList tells. Other errors are the host's, as text, or of the directory.
func Ask(ctx context.Context, stateDir string, r Request) ([]Status, error) {
	if err := r.Validate(); err != nil {
		return nil, fmt.Errorf("plugin: request: %w", err)
	}
	dir := filepath.Join(stateDir, askDir)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("plugin: no host with plugins has run on %s: %w", stateDir, ErrUnanswered)
	}
	if err := ownership.Check(dir); err != nil {
		return nil, fmt.Errorf("plugin: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	until, _ := ctx.Deadline()
	data, err := json.Marshal(asked{askedSchema, r, until.UTC()})
	if err != nil {
		return nil, err
	}
	id := rand.Text()
	if err := atomicfile.Write(filepath.Join(dir, id+waitsSuffix), append(data, '\n'), 0o600); err != nil {
		return nil, fmt.Errorf("plugin: request: %w", err)
	}
	return awaitAnswer(ctx, stateDir, id)
}

// awaitAnswer waits for the answer and removes it.
func awaitAnswer(ctx context.Context, stateDir, id string) ([]Status, error) {
	path := filepath.Join(stateDir, askDir, id)
	look := time.NewTicker(askEvery)
	defer look.Stop()
	for {
		data, err := readBounded(path+answerSuffix, answerLimit)
		switch {
		case err == nil:
			return takeAnswer(path+answerSuffix, data)
		case !errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("plugin: answer: %w", err)
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			switch gone := os.Remove(path + waitsSuffix); {
			case gone == nil:
				return nil, fmt.Errorf("plugin: %w: nothing took the request up on %s, and it was taken back; does the host run, and with plugins?", errors.Join(ErrUnanswered, ctx.Err()), stateDir)
			case errors.Is(gone, fs.ErrNotExist):
				return nil, fmt.Errorf("plugin: the host has taken the request up and goes on with it, but has not done it yet: %w", ctx.Err())
			default:
				return nil, fmt.Errorf("plugin: the request cannot be taken back: %w", gone)
			}
		}
	}
}

func takeAnswer(path string, data []byte) ([]Status, error) {
	var a answer
	if err := decodeAsked(data, &a, &a.Schema); err != nil {
		return nil, fmt.Errorf("plugin: answer %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil {
		return nil, fmt.Errorf("plugin: answer: %w", err)
	}
	if a.Error != "" {
		return a.Plugins, errors.New(a.Error)
	}
	return a.Plugins, nil
}

// askedID takes the name of a file in the directory apart: others' are none of
// anybody's business.
func askedID(name string) (id, suffix string, ok bool) {
	id, _, _ = strings.Cut(name, ".")
	suffix = name[len(id):]
	if len(id) != len(rand.Text()) || strings.Trim(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") != "" {
		return "", "", false
	}
	return id, suffix, suffix == waitsSuffix || suffix == takenSuffix || suffix == answerSuffix
}
