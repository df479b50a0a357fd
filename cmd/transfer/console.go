package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"strings"
	"sync"

	"golang.org/x/term"
)

// A console asks on the terminal that controls this process, as ssh does: not
// on stdin, which may be the data of a copy. It is safe for concurrent use;
// one question is asked at a time.
type console struct {
	mu sync.Mutex
}

// Line implements prompter.
func (c *console) Line(ctx context.Context, prompt string) (string, error) {
	return c.ask(ctx, prompt, func(tty *os.File) (string, error) {
		return readLine(tty)
	})
}

// Secret implements prompter.
func (c *console) Secret(ctx context.Context, prompt string) ([]byte, error) {
	answer, err := c.ask(ctx, prompt, func(tty *os.File) (string, error) {
		secret, err := term.ReadPassword(int(tty.Fd()))
		return string(secret), err
	})
	return []byte(answer), err
}

// available reports whether there is a terminal to ask on.
func (c *console) available() bool {
	_, _, closeTTY, err := openTTY()
	if err == nil {
		closeTTY()
	}
	return err == nil
}

// ask shows prompt and reads the answer, and gives the terminal back as it was
// when ctx ends first. The read itself cannot be called off: it stays behind,
// for a process that is about to end.
func (c *console) ask(ctx context.Context, prompt string, read func(*os.File) (string, error)) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	in, out, closeTTY, err := openTTY()
	if err != nil {
		return "", fmt.Errorf("%w: %w", errNoTerminal, err)
	}
	defer closeTTY()
	state, err := term.GetState(int(in.Fd()))
	if err != nil {
		return "", fmt.Errorf("%w: %w", errNoTerminal, err)
	}
	if _, err := io.WriteString(out, prompt); err != nil {
		return "", fmt.Errorf("ask on the terminal: %w", err)
	}
	type answer struct {
		text string
		err  error
	}
	got := make(chan answer, 1) // 1: nobody may be left to take it
	go func() {
		text, err := read(in)
		got <- answer{text, err}
	}()
	select {
	case a := <-got:
		if a.err != nil && !errors.Is(a.err, io.EOF) {
			return "", fmt.Errorf("read the answer: %w", a.err)
		}
		if a.err != nil || !strings.HasSuffix(a.text, "\n") {
			_, _ = io.WriteString(out, "\n") // what was typed did not end the line on the screen
		}
		return strings.TrimRight(a.text, "\r\n"), a.err
	case <-ctx.Done():
		_ = term.Restore(int(in.Fd()), state) // nothing better can be done with the error
		_, _ = io.WriteString(out, "\n")
		return "", context.Cause(ctx)
	}
}

// readLine returns a line with its end. It reads no byte beyond it only on a
// terminal, which hands out one line at a time.
func readLine(r io.Reader) (string, error) {
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil && (line == "" || !errors.Is(err, io.EOF)) {
		return "", err
	}
	return line, nil
}

// accountHome returns the home directory that the system's user database
// names, "" if it names none.
func accountHome() string {
	u, err := user.Current()
	if err != nil {
		return ""
	}
	return u.HomeDir
}
