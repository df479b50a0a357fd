package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/term"

	"transferd/internal/tree"
)

// An environ is everything that a command sees of the process it runs in, so
// that tests can give it another one. Commands use nothing else of package os
// but files.
type environ struct {
	stdin  io.Reader
	stdout io.Writer // results and --json only
	stderr io.Writer // everything for people

	lookup     func(name string) (string, bool) // as os.LookupEnv
	cwd        string                           // absolute
	isTerminal func(stream any) bool            // of stdin, stdout or stderr
	width      func() int                       // columns of the terminal at stderr; 80 if there is none
	umask      tree.Perm                        // bits that new files do not get
	now        func() time.Time
	prompts    prompter
}

// A prompter asks the person at the terminal. Both methods fail with
// errNoTerminal where there is nobody to ask.
type prompter interface {
	// Line shows prompt and returns the line typed, without its end.
	Line(ctx context.Context, prompt string) (string, error)

	// Secret is Line without echo.
	Secret(ctx context.Context, prompt string) ([]byte, error)
}

var errNoTerminal = errors.New("there is no terminal to ask on")

// hostEnviron returns the environ of this process.
func hostEnviron() *environ {
	cwd, err := os.Getwd()
	if err != nil {
		cwd = string(filepath.Separator) // relative operands then fail by themselves, each with its name
	}
	return &environ{
		stdin:      os.Stdin,
		stdout:     os.Stdout,
		stderr:     os.Stderr,
		lookup:     os.LookupEnv,
		cwd:        cwd,
		isTerminal: isTerminal,
		width:      func() int { return widthOf(os.Stderr) },
		umask:      processUmask(),
		now:        time.Now,
		prompts:    &console{},
	}
}

// get returns the variable name, "" if it is not set.
func (e *environ) get(name string) string {
	value, _ := e.lookup(name)
	return value
}

// home returns the home directory of the person, "" if nothing tells.
func (e *environ) home() string {
	if home := e.get("HOME"); home != "" {
		return home
	}
	if home := e.get("USERPROFILE"); home != "" && filepath.Separator == '\\' {
		return home
	}
	return accountHome()
}

// path returns name as an absolute path. It does not shorten it: "a/../b" may
// lead elsewhere than "b" when a is a symlink.
func (e *environ) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return e.cwd + string(filepath.Separator) + name
}

// canAsk reports whether a person can be asked.
func (e *environ) canAsk() bool {
	if e.prompts == nil {
		return false
	}
	if p, ok := e.prompts.(interface{ available() bool }); ok {
		return p.available()
	}
	return true
}

// withScreen returns e with a screen as stderr, so that messages, questions and
// bars do not get into each other's way.
func (e *environ) withScreen() *environ {
	shared := &screen{out: e.stderr}
	with := *e
	with.stderr = shared
	with.isTerminal = func(stream any) bool {
		if s, ok := stream.(*screen); ok {
			stream = s.out
		}
		return e.isTerminal(stream)
	}
	if e.prompts != nil {
		with.prompts = politePrompter{shared, e.prompts}
	}
	return &with
}

func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && takesEscapes(f)
}

func widthOf(f *os.File) int {
	if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 0 {
		return w
	}
	return 80
}
