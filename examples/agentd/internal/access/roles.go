// Package access says who may do what with a fleet's keys in etcd, and makes
// it so: roles, users and their passwords.
package access

import (
	"fmt"
	"regexp"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/plugin/dispatch"
)

// DefaultRoot is the prefix of a fleet's keys unless another is set.
const DefaultRoot = "/agents/"

// Permission is what a role may do with a key, or with all keys of a prefix.
type Permission struct {
	Key string `json:"key"`
	// Prefix means every key that begins with Key.
	Prefix bool `json:"prefix,omitempty"`
	// Write includes reading: etcd's transactions compare before they write.
	Write bool `json:"write,omitempty"`
}

func (p Permission) end() string {
	if p.Prefix {
		return clientv3.GetPrefixRangeEnd(p.Key)
	}
	return ""
}

func (p Permission) kind() clientv3.PermissionType {
	if p.Write {
		return clientv3.PermissionType(clientv3.PermReadWrite)
	}
	return clientv3.PermissionType(clientv3.PermRead)
}

// String is "read-write /agents/config/*".
func (p Permission) String() string {
	text := "read " + p.Key
	if p.Write {
		text = "read-write " + p.Key
	}
	if p.Prefix {
		text += "*"
	}
	return text
}

// Role is what its bearers may do, and nothing else.
type Role struct {
	Name        string       `json:"name"`
	Permissions []Permission `json:"permissions"`
}

// User bears roles.
type User struct {
	Name  string   `json:"name"`
	Roles []string `json:"roles"`
}

// Fleet names the keys, roles and users of one fleet.
type Fleet struct {
	root   string
	prefix string // of names
}

// separator joins the parts of a root to names. No part and no id has it, so
// that no two fleets ever share a name, and it may be part of a file's name.
const separator = "+"

// NewFleet is the fleet whose keys are below root. Names of roles and users of
// another than the default root begin with it, so that several fleets can
// share an etcd. No root may be below another's.
func NewFleet(root string) (Fleet, error) {
	trimmed := strings.Trim(root, "/")
	f := Fleet{root: "/" + trimmed + "/"}
	switch {
	case trimmed == "":
		f.root = DefaultRoot
	case f.root != DefaultRoot:
		for part := range strings.SplitSeq(trimmed, "/") {
			if err := CheckName(part); err != nil {
				return Fleet{}, fmt.Errorf("root %q: %w in each part", root, err)
			}
			f.prefix += part + separator
		}
	}
	return f, nil
}

// Name is the name in etcd of a role or user of the fleet.
func (f Fleet) Name(short string) string { return f.prefix + short }

// AgentName is the name of the user, and of the role, of one agent.
func (f Fleet) AgentName(id string) string { return f.Name(agentPrefix + id) }

const agentPrefix = "agent-"

// The roles of people and programs.
const (
	Agent    = "agent"
	Operator = "operator"
	// Controller moves rollouts on, and so can have every agent run any release that
	// its keys and its policy allow, with any configuration.
	Controller = "controller"
	Reader     = "reader"
	// Dispatcher assigns tasks, and so can have every agent run what its plugins
	// can do.
	Dispatcher = "dispatcher"
)

func (f Fleet) reads(keys ...string) []Permission { return f.permissions(false, keys) }

func (f Fleet) writes(keys ...string) []Permission { return f.permissions(true, keys) }

// permissions are for keys below the root; those that end with a slash are
// prefixes.
func (f Fleet) permissions(write bool, keys []string) []Permission {
	var all []Permission
	for _, key := range keys {
		all = append(all, Permission{Key: f.root + key, Prefix: key == "" || strings.HasSuffix(key, "/"), Write: write})
	}
	return all
}

// Roles are those that do not depend on which agents there are.
func (f Fleet) Roles() []Role {
	return []Role{
		// What every agent reads. A schema is named by its digest, which
		// readers check; an agent writes it if it is not there.
		{f.Name(Agent), append(f.reads("config/global", "config/group/", "plan/", "freeze/", "rollout-document/", "pin/"), f.writes("config-schema/")...)},
		// An operator also reads what agents say of themselves.
		{f.Name(Operator), append(f.reads(""), f.writes("config/", "config-history/", "config-record/", "order/", "plan/", "freeze/", "rollout/", "rollout-document/", "pin/", "tasks/")...)},
		{f.Name(Dispatcher), f.writes("tasks/")},
		// What a rollout of a configuration document ends with is its publication.
		{f.Name(Controller), append(f.reads(""), f.writes("plan/", "rollout/", "pin/", "config/", "config-history/", "config-record/")...)},
		// Configuration and tasks may hold secrets, and orders name who gave them.
		{f.Name(Reader), f.reads("registry/", "status/", "plugins/", "plan/", "freeze/", "rollout/", "pin/", "config-schema/")},
	}
}

// Agent is the role and the user of one agent: nobody else's keys, and of the
// configuration for single agents only its own. One that works for the fleet
// bears the roles for that as well: Dispatcher, Controller.
func (f Fleet) Agent(id string, works ...string) (Role, User) {
	user := f.AgentName(id)
	own := append(f.writes("registry/"+id, "status/"+id, "plugins/"+id+"/", "order/"+id), f.reads("config/agent/"+id)...)
	key, prefixes := dispatch.AgentKeys(f.root, id)
	own = append(own, Permission{Key: key, Write: true})
	for _, prefix := range prefixes {
		own = append(own, Permission{Key: prefix, Prefix: true, Write: true})
	}
	roles := []string{f.Name(Agent), user}
	for _, role := range works {
		roles = append(roles, f.Name(role))
	}
	return Role{user, own}, User{user, roles}
}

// name is what ids of agents and names of users look like.
//
//nolint:gochecknoglobals // compiled once, never written to
var name = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

// CheckName refuses what would reach beyond its own keys, or its own file.
func CheckName(s string) error {
	if !name.MatchString(s) {
		return fmt.Errorf("name %q: want a letter or digit, then up to 127 letters, digits, dots, underscores or hyphens", s)
	}
	return nil
}

// CheckUser refuses what no user of any fleet is called.
func CheckUser(s string) error {
	for part := range strings.SplitSeq(s, separator) {
		if !name.MatchString(part) {
			return fmt.Errorf("user %q: want a name of letters, digits, dots, underscores and hyphens, with the root of its fleet before it unless that is %s, such as edge+eu+agent-a1", s, DefaultRoot)
		}
	}
	return nil
}

// CheckPerson refuses names of agents for those who are none: an agent would
// get their role.
func CheckPerson(s string) error {
	if err := CheckName(s); err != nil {
		return err
	}
	if strings.HasPrefix(s, agentPrefix) || s == root {
		return fmt.Errorf("name %q: want one that is no agent's and not root's", s)
	}
	return nil
}
