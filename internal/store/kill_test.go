//go:build linux

package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"transferd/internal/tree"
	"transferd/internal/tree/treetest"
)

func contextOfChild() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), time.Minute)
}

// TestKill kills a process in the middle of its upload, at random moments,
// until one gets through; what it leaves must be right, and what was durable
// must not be sent twice.
func TestKill(t *testing.T) {
	const rounds = 6
	for round := range rounds {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), uint64(round)))
			path := t.TempDir()
			writeFile(t, path, "target", []byte("old"))
			_, data := killUpload()
			sent, runs := 0, 0
			for done := false; !done; runs++ {
				if runs > 50 {
					t.Fatal("no run gets through")
				}
				var n int
				n, done = killOne(t, path, 1+rng.IntN(killChunks+2))
				sent += n
				got, err := os.ReadFile(filepath.Join(path, "target"))
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got, data) && (done || string(got) != "old") {
					t.Fatalf("run %d: the target has %d bytes, neither the old nor the new file", runs, len(got))
				}
			}
			// A killed run loses at most what was not yet durable.
			if limit := killChunks + runs*killPending; sent > limit {
				t.Errorf("%d chunks sent in %d runs, want at most %d", sent, runs, limit)
			}
			if files := readDir(t, path); len(files) != 1 {
				t.Errorf("left behind: %v", sortedKeys(files))
			}
		})
	}
}

// killOne runs an upload and kills it after it has said so many things.
func killOne(t *testing.T, path string, after int) (sent int, done bool) {
	t.Helper()
	cmd, out, in := command(t, path, "upload")
	for said := 0; said < after && out.Scan(); said++ {
		switch what, _, _ := strings.Cut(out.Text(), " "); what {
		case "sent":
			sent++
		case "bad":
			t.Errorf("chunk on record is %s", out.Text())
		case "done":
			done = true
		}
	}
	_ = cmd.Process.Kill()
	_ = in.Close()
	for out.Scan() { // what it said before it died
		done = done || out.Text() == "done"
		if strings.HasPrefix(out.Text(), "sent") {
			sent++
		}
	}
	_ = cmd.Wait()
	return sent, done
}

// TestOtherProcess: the lock of a living process is waited for and then its
// holder named; that of a dead one is nothing.
func TestOtherProcess(t *testing.T) {
	s, path := openTemp(t, Options{})
	s.hub.tuning.lockWait, s.hub.tuning.lockPoll = 50*time.Millisecond, 5*time.Millisecond
	cmd, out, in := command(t, path, "hold")
	if !out.Scan() {
		t.Fatal("the child does not hold the upload")
	}
	u, data := killUpload()
	_, err := s.Begin(t.Context(), u)
	if !errors.Is(err, tree.ErrBusy) || !strings.Contains(err.Error(), fmt.Sprintf("process %d on ", cmd.Process.Pid)) {
		t.Errorf("Begin of what process %d holds = %v, want ErrBusy that names it", cmd.Process.Pid, err)
	}
	if n, err := s.Sweep(t.Context(), 0); n != 0 || err != nil {
		t.Errorf("Sweep = %d, %v while a process holds the only partial", n, err)
	}
	_ = in.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	treetest.Put(t, s, u.Path, data)
}

func TestOtherProcessIsWaitedFor(t *testing.T) {
	s, path := openTemp(t, Options{})
	s.hub.tuning.lockPoll = time.Millisecond
	cmd, out, in := command(t, path, "hold")
	if !out.Scan() {
		t.Fatal("the child does not hold the upload")
	}
	s.hub.sys.lock = func(f *os.File, shared bool) error {
		err := flock(f, shared)
		if errors.Is(err, errBusy) {
			_ = in.Close()
		}
		return err
	}
	u, data := killUpload()
	treetest.Put(t, s, u.Path, data)
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
}
