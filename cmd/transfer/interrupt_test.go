//go:build unix

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
)

// A child is a transfer process that writes --json.
type child struct {
	cmd    *exec.Cmd
	events *bufio.Scanner
}

// startTransfer runs transfer with args in dir, which is its home too. Its
// stderr goes to the test's log.
func startTransfer(t *testing.T, dir string, args ...string) *child {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "transfer", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir, "GORACE="+quickExit)
	cmd.Stderr = testLog{t}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return &child{cmd, bufio.NewScanner(out)}
}

type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Logf("stderr: %s", p)
	return len(p), nil
}

// An anyEvent has what tests look at in events.
type anyEvent struct {
	Event        string `json:"event"`
	Path         string `json:"path"`
	Bytes        int64  `json:"bytes"`
	BytesSent    int64  `json:"bytes_sent"`
	BytesResumed int64  `json:"bytes_resumed"`
	Files        int64  `json:"files"`
	Skipped      int64  `json:"skipped"`
	Transport    string `json:"transport"`
	Blake3       string `json:"blake3"`
	Code         int    `json:"code"`
}

// until reads events up to the first that found accepts.
func (c *child) until(t *testing.T, found func(anyEvent) bool) anyEvent {
	t.Helper()
	for c.events.Scan() {
		var e anyEvent
		if err := json.Unmarshal(c.events.Bytes(), &e); err != nil {
			t.Fatalf("%q: %v", c.events.Text(), err)
		}
		if found(e) {
			return e
		}
	}
	t.Fatalf("no such event; transfer ended: %v", c.cmd.Wait())
	return anyEvent{}
}

// code waits for the end and returns the exit code.
func (c *child) code(t *testing.T) int {
	t.Helper()
	for c.events.Scan() {
		t.Logf("stdout: %s", c.events.Text())
	}
	err := c.cmd.Wait()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return c.cmd.ProcessState.ExitCode()
}

// makeFile makes a file of size bytes, no two MiB of which are alike.
func makeFile(t *testing.T, name string, size int) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 1<<16)
	for i := 0; size > 0; i++ {
		for j := range block {
			block[j] = byte(j ^ j>>8 ^ i ^ i>>8*7)
		}
		n := min(size, len(block))
		if _, err := f.Write(block[:n]); err != nil {
			t.Fatal(err)
		}
		size -= n
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func sameFiles(t *testing.T, a, b string) {
	t.Helper()
	x, err := os.ReadFile(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := os.ReadFile(b)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(x, y) {
		t.Errorf("%s and %s differ", a, b)
	}
}

func noPartials(t *testing.T, dir string) {
	t.Helper()
	for _, pattern := range []string{".transfer-*", "*/.transfer-*"} {
		left, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil || len(left) > 0 {
			t.Errorf("left over: %v, %v", left, err)
		}
	}
}

func TestInterruptedCopyIsContinued(t *testing.T) {
	t.Parallel()
	// Below nohup a hangup is ignored, and transfer respects that. A handler of
	// ours keeps the copies from inheriting it.
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	t.Cleanup(func() { signal.Stop(hangups) })
	tests := []struct {
		signal os.Signal
		want   int
	}{
		{os.Interrupt, exitSIGINT},
		{syscall.SIGTERM, exitInterrupted},
		{syscall.SIGHUP, exitInterrupted},
		{syscall.SIGKILL, -1},
	}
	for _, tt := range tests {
		t.Run(tt.signal.String(), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			makeFile(t, filepath.Join(dir, "big"), 24<<20)
			c := startTransfer(t, dir, "copy", "--json", "--bwlimit", "8MiB", "big", "copied")
			c.until(t, func(e anyEvent) bool { return e.Event == "progress" && e.Bytes >= 10<<20 })
			if err := c.cmd.Process.Signal(tt.signal); err != nil {
				t.Fatal(err)
			}
			if got := c.code(t); got != tt.want {
				t.Errorf("exit code %d, want %d", got, tt.want)
			}
			if _, err := os.Lstat(filepath.Join(dir, "copied")); err == nil {
				t.Error("the final name exists though the copy was not finished")
			}

			c = startTransfer(t, dir, "copy", "--json", "big", "copied")
			done := c.until(t, func(e anyEvent) bool { return e.Event == "done" })
			if got := c.code(t); got != exitDone {
				t.Errorf("the second run exits %d", got)
			}
			if done.BytesResumed < 1<<20 || done.BytesResumed+done.BytesSent != 24<<20 {
				t.Errorf("resumed %d and sent %d of %d bytes", done.BytesResumed, done.BytesSent, 24<<20)
			}
			sameFiles(t, filepath.Join(dir, "big"), filepath.Join(dir, "copied"))
			noPartials(t, dir)
		})
	}
}

func TestSecondInterruptEndsAtOnce(t *testing.T) {
	// A source that never yields a byte and cannot be called off.
	dir := t.TempDir()
	fifo := filepath.Join(dir, "in")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	in, err := os.OpenFile(fifo, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }() // nothing was written
	cmd := exec.CommandContext(t.Context(), "transfer", "copy", "--json", "-", "copied")
	cmd.Dir, cmd.Stdin, cmd.Env = dir, in, append(os.Environ(), "HOME="+dir, "GORACE="+quickExit)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n') // it runs, and has its signal handler
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("stdout: %s", line)
	for range 2 {
		if err := cmd.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
	}
	if _, err := io.Copy(io.Discard, out); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // the exit code tells
	if got := cmd.ProcessState.ExitCode(); got != exitSIGINT {
		t.Errorf("exit code %d, want %d", got, exitSIGINT)
	}
}
