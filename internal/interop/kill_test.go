//go:build unix

package interop

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"transferd/internal/testpeer"
)

const (
	killRounds = 20
	killSize   = 300 << 20
	reputSize  = 128 << 20
)

// A server is one that can be killed and started again on its port.
type server interface {
	Kill()
	Restart(t *testing.T)
}

// stockServer makes a stock sshd a server.
type stockServer struct{ *testpeer.SSHD }

func (s stockServer) Restart(t *testing.T) {
	t.Helper()
	s.SSHD.Restart(t)
}

func TestKilledUploadsResume(t *testing.T) {
	d := startFastDaemon(t)
	src := filepath.Join(t.TempDir(), "stack")
	writeRandom(t, src, killSize)
	c := newFastClient(t, d.Login)
	killAndResume(t, killRounds, d, c, src, c.remote("/copy"), src, filepath.Join(d.Root, "copy"))
}

func TestKilledDownloadsResume(t *testing.T) {
	d := startFastDaemon(t)
	src := filepath.Join(d.Root, "stack")
	writeRandom(t, src, killSize)
	c := newFastClient(t, d.Login)
	dst := filepath.Join(t.TempDir(), "copy")
	killAndResume(t, killRounds, d, c, c.remote("/stack"), dst, src, dst)
}

func TestKilledCopiesResumeWithStockSSHD(t *testing.T) {
	s := testpeer.StartSSHD(t, testpeer.SSHDOptions{})
	c := newFastClient(t, s.Login)
	dir := t.TempDir()
	src, up, down := filepath.Join(dir, "stack"), filepath.Join(dir, "up"), filepath.Join(dir, "down")
	writeRandom(t, src, killSize)
	killAndResume(t, 6, stockServer{s}, c, src, c.remote(up), src, up)
	killAndResume(t, 6, stockServer{s}, c, c.remote(src), down, src, down)
}

// killAndResume runs rounds of: start the copy from → to, kill one side at a
// random moment, run the same command again, compare the files want and got.
func killAndResume(t *testing.T, rounds int, s server, c client, from, to, want, got string) {
	t.Helper()
	start := time.Now()
	c.copy(t, from, to)
	whole := time.Since(start)
	resumedRounds := 0
	for round := range rounds {
		if err := os.Remove(got); err != nil {
			t.Fatal(err)
		}
		killServer := round%2 == 0
		delay := killOnce(t, s, c, from, to, got, killServer, &whole)
		if _, err := os.Lstat(got); err == nil {
			// The kill fell between the rename and its acknowledgement. Whatever
			// has the final name is whole.
			sameFile(t, got, want)
		}
		r := c.copy(t, from, to)
		sameFile(t, got, want)
		if r.Skipped == 0 && r.BytesSent+r.BytesResumed < killSize {
			t.Errorf("round %d: sent %d + resumed %d < %d", round, r.BytesSent, r.BytesResumed, killSize)
		}
		if r.BytesResumed > 0 {
			resumedRounds++
		}
		left, err := filepath.Glob(filepath.Join(filepath.Dir(got), ".transfer-*"))
		if err != nil || len(left) > 0 {
			t.Errorf("round %d: left over %q, %v", round, left, err)
		}
		t.Logf("round %2d: killed %s after %3d ms; then sent %3d MiB, %3d MiB not resent",
			round, map[bool]string{true: "server", false: "client"}[killServer], delay.Milliseconds(),
			r.BytesSent>>20, r.BytesResumed>>20)
	}
	if resumedRounds == 0 {
		t.Errorf("no round of %d resumed anything", rounds)
	}
}

// killOnce breaks off one copy at a random moment and returns when that was.
// Copies that were done before are repeated with less time.
func killOnce(t *testing.T, s server, c client, from, to, got string, killServer bool, whole *time.Duration) time.Duration {
	t.Helper()
	for range 20 {
		delay := time.Duration(rand.Int64N(int64(*whole)))
		cmd := c.command(t.Context(), "copy", "-q", "--retries", "0", from, to)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- cmd.Wait() }()
		timer := time.NewTimer(delay)
		select {
		case err := <-done:
			timer.Stop()
			if err != nil {
				t.Fatalf("%s: %v", cmd, err)
			}
		case <-timer.C:
			err := kill(t, s, cmd, killServer, done, &stderr)
			if err != nil {
				return delay
			}
		}
		// It was faster than expected.
		*whole = *whole * 9 / 10
		if err := os.Remove(got); err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("every copy was done before it could be killed")
	return 0
}

// kill kills one side, waits for the client to end and returns how it ended.
func kill(t *testing.T, s server, cmd *exec.Cmd, killServer bool, done <-chan error, stderr *bytes.Buffer) error {
	t.Helper()
	if !killServer {
		_ = cmd.Process.Kill()
		return <-done
	}
	s.Kill()
	defer s.Restart(t)
	select {
	case err := <-done:
		// Before it was logged in the client cannot connect; after that it has
		// lost its connection.
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() != 6 && exit.ExitCode() != 3 {
			t.Errorf("client exited with %d after its server was killed, want 6", exit.ExitCode())
		}
		return err
	case <-time.After(time.Minute):
		_ = cmd.Process.Signal(syscall.SIGQUIT) // makes it tell where it is
		t.Fatalf("client did not notice in a minute that its server is gone: %v\n%s", <-done, stderr)
	}
	return nil
}

func TestReputAfterKilledDaemonIsRight(t *testing.T) {
	d := startFastDaemon(t)
	program := testpeer.Need(t, "sftp")
	src := filepath.Join(t.TempDir(), "stack")
	writeRandom(t, src, reputSize)
	remote := filepath.Join(d.Root, "stack")
	batch := func(verb string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), program, append(d.Options(), "-b", "-", d.Target())...)
		cmd.Stdin = strings.NewReader(verb + " " + src + " /stack\n")
		return cmd
	}
	for round := 0; round < killRounds; round++ {
		_ = os.Remove(remote)
		stop := rand.Int64N(reputSize * 3 / 4)
		put := batch("put")
		if err := put.Start(); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- put.Wait() }()
		waitFor(t, "the upload to reach its random size", func() bool {
			info, err := os.Stat(remote)
			return err == nil && info.Size() > stop
		})
		d.Kill()
		t.Logf("put, its server killed: %v", <-done)
		info, err := os.Stat(remote)
		if err != nil {
			t.Fatal(err)
		}
		d.Restart(t)
		if info.Size() == reputSize {
			round-- // sftp was faster than the kill
			continue
		}
		run(t, batch("reput"))
		sameFile(t, remote, src)
		t.Logf("round %2d: killed at %d bytes", round, info.Size())
	}
}

func TestCopySurvivesRestartOfTheDaemon(t *testing.T) {
	d := startFastDaemon(t)
	src := filepath.Join(t.TempDir(), "stack")
	writeRandom(t, src, killSize)
	c := newFastClient(t, d.Login)
	cmd := c.command(t.Context(), "copy", "--json", src, c.remote("/copy"))
	var events strings.Builder
	cmd.Stdout = &events
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the upload to begin", func() bool {
		parts, err := filepath.Glob(filepath.Join(d.Root, ".transfer-*.part"))
		return err == nil && len(parts) > 0
	})
	d.Kill()
	d.Restart(t)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("copy: %v\n%s\n%s", err, events.String(), d.Log())
	}
	sameFile(t, filepath.Join(d.Root, "copy"), src)
}
