package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// passwordVariable holds a key's password where there is no file. No flag
// does: the arguments of a process are for everyone to read.
const passwordVariable = "AGENTD_PASSWORD"

const maxPassword = 1024

// passwordHelp is for the Long text of commands that read a private key.
const passwordHelp = `A key with a password takes it from --password-file, else from the variable
` + passwordVariable + `, else from the terminal.`

// passwordFlag says where the password of a private key is.
type passwordFlag struct{ file string }

func (p *passwordFlag) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.file, "password-file", "", "`file` whose first line is the key's password")
}

// read finds the password of a key that has one.
func (p *passwordFlag) read() (string, error) {
	if p.file != "" {
		return readPasswordFile(p.file)
	}
	if password := os.Getenv(passwordVariable); password != "" {
		return password, nil
	}
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return "", usagef("the key has a password and there is no terminal to ask for it: give --password-file or %s", passwordVariable)
	}
	return ask("Password of the key: ")
}

// choose is read for a new key: a terminal is asked twice.
func (p *passwordFlag) choose() (string, error) {
	password, err := p.read()
	if err != nil || p.file != "" || os.Getenv(passwordVariable) != "" {
		return password, err
	}
	again, err := ask("The same password again: ")
	if err == nil && again != password {
		err = errors.New("the two passwords differ: nothing was written")
	}
	return password, err
}

func ask(prompt string) (string, error) {
	if _, err := fmt.Fprint(os.Stderr, prompt); err != nil {
		return "", err
	}
	password, err := term.ReadPassword(int(os.Stdin.Fd()))
	_, _ = fmt.Fprintln(os.Stderr)
	if err == nil && len(password) == 0 {
		err = errors.New("the password is empty")
	}
	return string(password), err
}

// readPasswordFile also reads what is no regular file, such as a pipe.
func readPasswordFile(path string) (password string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("--password-file: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := forOwnerAlone(f); err != nil {
		return "", fmt.Errorf("--password-file: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxPassword+2))
	if err != nil {
		return "", fmt.Errorf("--password-file: %w", err)
	}
	line, _, _ := bytes.Cut(text, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	if len(line) == 0 || len(line) > maxPassword {
		return "", fmt.Errorf("--password-file: the first line of %s has %d bytes, want 1 to %d", path, len(line), maxPassword)
	}
	return string(line), nil
}

// forOwnerAlone refuses a file that others than its owner can use. A pipe is
// whose it is.
func forOwnerAlone(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if perm := info.Mode().Perm(); runtime.GOOS != "windows" && info.Mode().IsRegular() && perm&0o077 != 0 {
		return fmt.Errorf("%s has mode %04o, so others than its owner can use it: run chmod 600 on it", f.Name(), perm)
	}
	return nil
}
