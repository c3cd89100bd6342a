package access

import (
	"context"
	"fmt"
	"slices"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Wanted is how etcd is to be.
type Wanted struct {
	Roles []Role
	Users []User
	// Passwords holds the passwords of users that are made.
	Passwords Passwords
	// Certificates makes users that have no password, and log in by the
	// common name of their certificate. Root has one all the same: it is the
	// way back in.
	Certificates bool
	// Enable turns authentication on at the end.
	Enable bool
}

// Step is one thing that differs from what is wanted.
type Step struct {
	// Action is one of add-role, grant, revoke, delete-user, add-user,
	// give-role, enable.
	Action string `json:"action"`
	// Target is the role or user; empty for enable.
	Target string `json:"target,omitempty"`
	// Detail is the permission, or the role that is given.
	Detail string `json:"detail,omitempty"`

	do func(context.Context, *clientv3.Client) error
}

const root = "root"

// Diff returns the steps that make etcd as wanted; none if it is so already.
// It changes nothing. Permissions that a role of w has besides those wanted
// are taken away; roles that a user has besides are left.
func Diff(ctx context.Context, c *clientv3.Client, w Wanted) ([]Step, error) {
	roles, err := c.RoleList(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the roles: %w", err)
	}
	users, err := c.UserList(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the users: %w", err)
	}
	open, err := w.open(ctx, c)
	if err != nil {
		return nil, err
	}
	var steps []Step
	for _, r := range w.Roles {
		more, err := diffRole(ctx, c, r, slices.Contains(roles.Roles, r.Name))
		if err != nil {
			return nil, err
		}
		steps = append(steps, more...)
	}
	wanted := w.Users
	if w.Enable {
		wanted = append([]User{{root, []string{root}}}, wanted...)
	}
	for _, u := range wanted {
		exists := slices.Contains(users.Users, u.Name)
		if exists && open && u.Name == root {
			steps, exists = append(steps, forgetRoot()), false
		}
		more, err := diffUser(ctx, c, w, u, exists)
		if err != nil {
			return nil, err
		}
		steps = append(steps, more...)
	}
	if open {
		steps = append(steps, Step{"enable", "", "", func(ctx context.Context, c *clientv3.Client) error {
			_, err := c.AuthEnable(ctx)
			return err
		}})
	}
	return steps, nil
}

// open tells whether authentication is off and to be turned on.
func (w Wanted) open(ctx context.Context, c *clientv3.Client) (bool, error) {
	if !w.Enable {
		return false, nil
	}
	status, err := c.AuthStatus(ctx)
	if err != nil {
		return false, fmt.Errorf("status of authentication: %w", err)
	}
	return !status.Enabled, nil
}

// forgetRoot comes before root is made: while authentication is off nothing
// proves a password, and one that nobody knows would lock everybody out.
func forgetRoot() Step {
	return Step{"delete-user", root, "its password is made known again", func(ctx context.Context, c *clientv3.Client) error {
		_, err := c.UserDelete(ctx, root)
		return err
	}}
}

// Stranded returns the agents of f that are registered and would have no user
// once authentication is on, sorted; none where it is on already.
func Stranded(ctx context.Context, c *clientv3.Client, f Fleet, w Wanted) ([]string, error) {
	if open, err := w.open(ctx, c); err != nil || !open {
		return nil, err
	}
	users, err := c.UserList(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the users: %w", err)
	}
	prefix := f.root + "registry/"
	found, err := c.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		return nil, fmt.Errorf("list the agents: %w", err)
	}
	known := map[string]bool{}
	for _, u := range w.Users {
		known[u.Name] = true
	}
	for _, u := range users.Users {
		known[u] = true
	}
	var stranded []string
	for _, kv := range found.Kvs {
		id := strings.TrimPrefix(string(kv.Key), prefix)
		if CheckName(id) == nil && !known[f.AgentName(id)] {
			stranded = append(stranded, id)
		}
	}
	return stranded, nil
}

func diffRole(ctx context.Context, c *clientv3.Client, r Role, exists bool) ([]Step, error) {
	var steps []Step
	type span struct{ key, end string }
	has := map[span]clientv3.PermissionType{}
	if exists {
		found, err := c.RoleGet(ctx, r.Name)
		if err != nil {
			return nil, fmt.Errorf("read role %s: %w", r.Name, err)
		}
		for _, p := range found.Perm {
			has[span{string(p.Key), string(p.RangeEnd)}] = clientv3.PermissionType(p.PermType)
		}
	} else {
		steps = append(steps, Step{"add-role", r.Name, "", func(ctx context.Context, c *clientv3.Client) error {
			_, err := c.RoleAdd(ctx, r.Name)
			return err
		}})
	}
	for _, p := range r.Permissions {
		at := span{p.Key, p.end()}
		if kind, ok := has[at]; !ok || kind != p.kind() {
			steps = append(steps, Step{"grant", r.Name, p.String(), func(ctx context.Context, c *clientv3.Client) error {
				_, err := c.RoleGrantPermission(ctx, r.Name, p.Key, p.end(), p.kind())
				return err
			}})
		}
		delete(has, at)
	}
	for at := range has {
		steps = append(steps, Step{"revoke", r.Name, fmt.Sprintf("%q to %q", at.key, at.end), func(ctx context.Context, c *clientv3.Client) error {
			_, err := c.RoleRevokePermission(ctx, r.Name, at.key, at.end)
			return err
		}})
	}
	return steps, nil
}

func diffUser(ctx context.Context, c *clientv3.Client, w Wanted, u User, exists bool) ([]Step, error) {
	var steps []Step
	var has []string
	if exists {
		found, err := c.UserGet(ctx, u.Name)
		if err != nil {
			return nil, fmt.Errorf("read user %s: %w", u.Name, err)
		}
		has = found.Roles
	} else {
		how := "with a password"
		if w.Certificates && u.Name != root {
			how = "by certificate"
		}
		steps = append(steps, Step{"add-user", u.Name, how, func(ctx context.Context, c *clientv3.Client) error {
			return w.addUser(ctx, c, u.Name)
		}})
	}
	for _, role := range u.Roles {
		if !slices.Contains(has, role) {
			steps = append(steps, Step{"give-role", u.Name, role, func(ctx context.Context, c *clientv3.Client) error {
				_, err := c.UserGrantRole(ctx, u.Name, role)
				return err
			}})
		}
	}
	return steps, nil
}

func (w Wanted) addUser(ctx context.Context, c *clientv3.Client, name string) error {
	if w.Certificates && name != root {
		_, err := c.UserAddWithOptions(ctx, name, "", &clientv3.UserAddOptions{NoPassword: true})
		return err
	}
	password, err := w.Passwords.ensure(name)
	if err != nil {
		return err
	}
	_, err = c.UserAdd(ctx, name, password)
	return err
}

// RootPassword is the password of root as it is on disk.
func (w Wanted) RootPassword() (string, error) { return w.Passwords.read(w.Passwords.path(root)) }

// Do makes one step.
func (s Step) Do(ctx context.Context, c *clientv3.Client) error {
	if err := s.do(ctx, c); err != nil {
		return fmt.Errorf("%s: %w", s, err)
	}
	return nil
}

// String is "grant agent-a1: read /agents/config/global".
func (s Step) String() string {
	text := s.Action
	if s.Target != "" {
		text += " " + s.Target
	}
	if s.Detail != "" {
		text += ": " + s.Detail
	}
	return text
}

// Remove takes the users and roles of agents away; those that are not there
// are left out. It returns the names of what it removed.
func Remove(ctx context.Context, c *clientv3.Client, names []string) ([]string, error) {
	roles, err := c.RoleList(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the roles: %w", err)
	}
	users, err := c.UserList(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the users: %w", err)
	}
	var removed []string
	for _, name := range names {
		gone := false
		if slices.Contains(users.Users, name) {
			if _, err := c.UserDelete(ctx, name); err != nil {
				return removed, fmt.Errorf("delete user %s: %w", name, err)
			}
			gone = true
		}
		if slices.Contains(roles.Roles, name) {
			if _, err := c.RoleDelete(ctx, name); err != nil {
				return removed, fmt.Errorf("delete role %s: %w", name, err)
			}
			gone = true
		}
		if gone {
			removed = append(removed, name)
		}
	}
	return removed, nil
}
