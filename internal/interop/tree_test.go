//go:build unix

package interop

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"transferd/internal/testpeer"
)

// oddFiles is how many files makeOddTree makes.
const oddFiles = 10_000

func TestOddTreeRoundTripWithDaemon(t *testing.T) {
	d := startFastDaemon(t)
	oddTreeRoundTrip(t, newFastClient(t, d.Login), "/", d.Root, d)
}

func TestOddTreeRoundTripWithStockSSHD(t *testing.T) {
	s := testpeer.StartSSHD(t, testpeer.SSHDOptions{})
	root := t.TempDir()
	oddTreeRoundTrip(t, newFastClient(t, s.Login), root+"/", root, stockServer{s})
}

// oddTreeRoundTrip copies a tree of odd names there and back, again, and with
// kills on the way. What clients call dst lies in root.
func oddTreeRoundTrip(t *testing.T, c client, dst, root string, s server) {
	t.Helper()
	src := filepath.Join(t.TempDir(), "src")
	makeOddTree(t, src)
	want := describe(t, src)

	killCopy(t, c, s, src, c.remote(dst+"up"))
	args := []string{"-r", src, c.remote(dst + "up")}
	if marks, err := filepath.Glob(filepath.Join(root, "up", ".transfer-*.dir")); err != nil || len(marks) == 0 {
		// The kill came too late, or before anything: a copy that is done would
		// take the second one into itself, as scp's does.
		args = append(args, "-T")
	}
	up := c.copy(t, args...)
	t.Logf("up after a kill: %+v", up)
	if up.Failed != 0 {
		t.Errorf("up: %d files failed", up.Failed)
	}
	back := filepath.Join(t.TempDir(), "back") + "/"
	if err := os.Mkdir(back, 0o755); err != nil {
		t.Fatal(err)
	}
	killCopy(t, c, s, c.remote(dst+"up"), back)
	down := c.copy(t, "-r", c.remote(dst+"up"), back)
	t.Logf("down after a kill: %+v", down)
	if diff := cmp.Diff(want, describe(t, back+"up")); diff != "" {
		t.Errorf("what came back differs (-want +got):\n%.4000s", diff)
	}
	if again := c.copy(t, "-r", c.remote(dst+"up"), back); again.Files != 0 || again.BytesSent != 0 {
		t.Errorf("second download did something: %+v", again)
	}
	if again := c.copy(t, "-r", "-T", src, c.remote(dst+"up")); again.Files != 0 || again.BytesSent != 0 {
		t.Errorf("second upload did something: %+v", again)
	}
}

// killCopy starts the copy and kills it by SIGKILL when it is about half-way.
func killCopy(t *testing.T, c client, s server, from, to string) {
	t.Helper()
	cmd := c.command(t.Context(), "copy", "-r", "-q", "--retries", "0", from, to)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		t.Logf("the copy was done before it could be killed: %v", err)
	case <-time.After(time.Duration(150+rand.IntN(400)) * time.Millisecond):
		_ = cmd.Process.Kill()
		t.Logf("the copy was killed: %v", <-done)
	}
}

// makeOddTree makes a tree of files with names that programs stumble over.
func makeOddTree(t *testing.T, root string) {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	odd := []string{
		"plain", "with space", " leading", "trailing ", "new\nline", "tab\there", "quote'\"`", "back\\slash", "*?[glob]",
		"$(dollar)", "-dash", "~tilde", "#hash", "colon:name", "semi;colon", "\xff\xfe invalid", "\xc3\x28", "\x01\x1b[31m", "ünïcödé", "日本語", "e\u0301",
	}
	var dirs []string
	for i := range 100 {
		dir := filepath.Join(root, fmt.Sprintf("%s %d", odd[i%len(odd)], i/7), odd[(i*5)%len(odd)])
		check(t, os.MkdirAll(dir, 0o755))
		dirs = append(dirs, dir)
	}
	when := time.Unix(1_500_000_000, 0)
	for i := range oddFiles {
		name := fmt.Sprintf("%s %d", odd[i%len(odd)], i)
		if i%50 == 0 {
			name += strings.Repeat("x", 255-len(name))
		}
		path := filepath.Join(dirs[i%len(dirs)], name)
		data := make([]byte, rng.IntN(3000))
		for k := range data {
			data[k] = byte(rng.Uint32())
		}
		if i%97 == 0 {
			data = nil
		}
		check(t, os.WriteFile(path, data, 0o600))
		check(t, os.Chmod(path, []fs.FileMode{0o644, 0o600, 0o755, 0o444, 0o640}[i%5]))
		when = when.Add(37 * time.Second)
		check(t, os.Chtimes(path, when, when))
	}
	for i, target := range []string{"plain 0", "../plain", "/absolute/nowhere", "dangling", "new\nline", strings.Repeat("y", 200)} {
		check(t, os.Symlink(target, filepath.Join(dirs[i], "link")))
	}
	check(t, os.MkdirAll(filepath.Join(root, "empty", "dir"), 0o700))
	// Read-only and timed directories last, the deepest first.
	dirs = append(dirs, filepath.Join(root, "empty", "dir"), filepath.Join(root, "empty"))
	for i, dir := range dirs {
		if i%9 == 0 {
			check(t, os.Chmod(dir, 0o555))
			t.Cleanup(func() { _ = os.Chmod(dir, 0o755) })
		}
		when = when.Add(time.Minute)
		check(t, os.Chtimes(dir, when, when))
	}
}

// describe lists everything in a tree that a copy must keep. Times are in whole
// seconds, as SFTP has them.
func describe(t *testing.T, root string) []string {
	t.Helper()
	var lines []string
	check(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		line := fmt.Sprintf("%q %v", rel, info.Mode())
		switch {
		case d.Type().IsRegular():
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %d %x", info.ModTime().Unix(), sha256.Sum256(data))
		case d.IsDir():
			line += fmt.Sprintf(" %d", info.ModTime().Unix())
		case d.Type() == fs.ModeSymlink:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" -> %q", target)
		}
		lines = append(lines, line)
		return nil
	}))
	slices.Sort(lines)
	return lines
}
