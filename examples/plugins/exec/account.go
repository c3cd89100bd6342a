package main

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
)

// setUser looks the account up once: tasks do not wait for a directory server.
func (c *command) setUser(name string) error {
	if name == "" {
		return nil
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("want a plugin that runs as root to become %q, found user id %d", name, os.Geteuid())
	}
	u, err := user.Lookup(name)
	if err != nil {
		return err
	}
	a := &account{Name: u.Username, Home: u.HomeDir}
	ids, err := u.GroupIds()
	if err != nil {
		return err
	}
	for _, id := range append([]string{u.Uid, u.Gid}, ids...) {
		n, err := strconv.ParseUint(id, 10, 32)
		if err != nil {
			return fmt.Errorf("want numeric ids of %q, found %q", name, id)
		}
		a.Groups = append(a.Groups, uint32(n))
	}
	a.UID, a.GID, a.Groups = a.Groups[0], a.Groups[1], a.Groups[2:]
	c.account = a
	return nil
}
