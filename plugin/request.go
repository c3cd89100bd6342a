package plugin

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/perennial-go/perennial/internal/strictjson"
)

// Action is what a Request asks for.
type Action string

// The actions.
const (
	// ActionList asks for the status of all plugins.
	ActionList Action = "list"
	// ActionRestart is Manager.Restart, ActionDisable Manager.Disable and
	// ActionEnable Manager.Enable.
	ActionRestart Action = "restart"
	ActionDisable Action = "disable"
	ActionEnable  Action = "enable"
)

// Request is what Ask asks of a host.
type Request struct {
	Action Action `json:"action"`
	// Plugin is the name of the plugin; empty for ActionList.
	Plugin string `json:"plugin,omitempty"`
	// Reason is why a plugin is disabled, By who asks; both at most 1 KiB, for
	// those who look later.
	Reason string `json:"reason,omitempty"`
	By     string `json:"by,omitempty"`
}

// Bounds on what a host reads of those who ask, in bytes.
const (
	requestLimit = 16 << 10
	requestText  = 1 << 10
	requestDepth = 8
)

// Validate says what no host could do.
func (r Request) Validate() error {
	switch r.Action {
	case ActionList:
		if r.Plugin != "" {
			return fmt.Errorf("plugin: want none with %s, found %q", r.Action, r.Plugin)
		}
	case ActionRestart, ActionDisable, ActionEnable:
		if !ValidName(r.Plugin) {
			return fmt.Errorf("plugin: want a plugin's name, found %q", r.Plugin)
		}
	default:
		return fmt.Errorf("action: want list, restart, disable or enable, found %q", r.Action)
	}
	if len(r.Reason) > requestText || len(r.By) > requestText {
		return fmt.Errorf("reason and by: want at most %d bytes each, found %d and %d", requestText, len(r.Reason), len(r.By))
	}
	return nil
}

// asked is a Request as it lies in a state directory.
type asked struct {
	Schema int `json:"schema"`
	Request
	// Until is when whoever asks stops waiting: a host that comes later must
	// not do what nobody expects any more.
	Until time.Time `json:"until"`
}

// answer is what the host says to a Request.
type answer struct {
	Schema int `json:"schema"`
	// Error is empty if what was asked for was done.
	Error string `json:"error,omitempty"`
	// Plugins are those of the host, after what was asked for was done.
	Plugins []Status `json:"plugins,omitempty"`
}

const askedSchema = 1

// errSchema is of a file that another version wrote.
var errSchema = errors.New("written by another version")

func parseAsked(data []byte) (asked, error) {
	var a asked
	if err := decodeAsked(data, &a, &a.Schema); err != nil {
		return a, err
	}
	if a.Until.IsZero() {
		return a, errors.New("until: want a time, found none")
	}
	return a, a.Validate()
}

// decodeAsked reads a request or an answer. Members that it does not know are
// of a later version, and passed over.
func decodeAsked(data []byte, into any, number *int) error {
	if err := strictjson.Check(data, requestDepth); err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return err
	}
	if *number != askedSchema {
		return fmt.Errorf("schema: want %d, found %d: %w", askedSchema, *number, errSchema)
	}
	return nil
}
