//go:build linux

package store

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"

	"go.uber.org/goleak"

	"transferd/internal/tree"
	"transferd/internal/tree/treetest"
)

// childEnv tells this test binary to be a process of its own: the directory
// that it uploads to, and what it does.
const (
	childDir  = "STORE_TEST_CHILD_DIR"
	childRole = "STORE_TEST_CHILD_ROLE"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := child(dir, os.Getenv(childRole)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// command starts this test binary as a child with a role.
func command(t *testing.T, dir, role string) (*exec.Cmd, *bufio.Scanner, io.WriteCloser) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir, childRole+"="+role)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, bufio.NewScanner(out), in
}

const (
	killChunks = 24
	killSize   = killChunks*tree.MinChunkSize - 12345

	killPending = 6 // chunks that may be taken and not yet durable
)

func killUpload() (tree.Upload, []byte) {
	data := treetest.Data(42, killSize)
	return treetest.Upload("target", data), data
}

func child(dir, role string) error {
	s, err := Open(dir, Options{})
	if err != nil {
		return err
	}
	s.hub.tuning.batchBytes, s.hub.tuning.maxPending = 3<<20, killPending<<20
	u, data := killUpload()
	ctx, cancel := contextOfChild()
	defer cancel()
	w, err := s.Begin(ctx, u)
	if err != nil {
		return err
	}
	if role == "hold" {
		say("holding")
		_, err := io.Copy(io.Discard, os.Stdin)
		return err
	}
	have := map[int64]tree.Value{}
	for i, v := range w.Have() {
		have[i] = v
	}
	if err := w.Recheck(ctx, func(i int64) { say("bad", i) }); err != nil {
		return err
	}
	for _, c := range treetest.Chunks(data) {
		if have[c.Index] == c.Value {
			continue
		}
		if err := w.WriteChunk(ctx, c); err != nil {
			return err
		}
		say("sent", c.Index)
	}
	say("committing")
	if _, err := w.Commit(ctx, treetest.FinalOf(data)); err != nil {
		return err
	}
	say("done")
	return s.Close()
}

// say tells the parent.
func say(what ...any) { _, _ = fmt.Fprintln(os.Stdout, what...) }
