package sftp

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"transferd/internal/tree"
)

// Variables that make a process of this test the client that gets killed.
const (
	killDir      = "TRANSFER_TEST_KILL_DIR"
	killJournals = "TRANSFER_TEST_KILL_JOURNALS"
)

// killSize is small, so that twenty rounds take seconds; the batches are small
// with it.
const killSize = 24*mib + 333

func killUpload(t *testing.T, dir string) tree.Upload {
	t.Helper()
	return tree.Upload{Path: diskPath(t, filepath.Join(dir, "f")), Origin: "here:/data", Resume: true}
}

func quick(c *Client) *Client {
	c.pace = pace{batch: 2 * mib, age: 20 * time.Millisecond, held: 4 * mib}
	return c
}

// tell counts, on standard output, what a sink takes.
type telling struct {
	*Client
	w io.Writer
}

func (s telling) Begin(ctx context.Context, u tree.Upload) (tree.Writer, error) {
	w, err := s.Client.Begin(ctx, u)
	return tellingWriter{w, s.w}, err
}

type tellingWriter struct {
	tree.Writer
	out io.Writer
}

func (w tellingWriter) WriteChunk(ctx context.Context, c tree.Chunk) error {
	err := w.Writer.WriteChunk(ctx, c)
	_, werr := fmt.Fprintln(w.out, c.Index)
	if err == nil {
		err = werr
	}
	return err
}

// TestKillHelper is the client of TestKilledClientResumes.
func TestKillHelper(t *testing.T) {
	dir := os.Getenv(killDir)
	if dir == "" {
		return
	}
	c := quick(newTestClient(t, stock(t), ClientOptions{Journals: journals{os.Getenv(killJournals)}}))
	if err := putFile(t, telling{c, os.Stdout}, killUpload(t, dir), random(killSize)); err != nil {
		t.Fatal(err)
	}
}

func TestKilledClientResumes(t *testing.T) {
	data := random(killSize)
	kept := 0
	for range 20 {
		dir, journalDir := t.TempDir(), t.TempDir()
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKillHelper$")
		cmd.Env = append(os.Environ(), killDir+"="+dir, killJournals+"="+journalDir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := rand.IntN(30); n >= 0 && lines.Scan(); n-- {
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		kept += resumes(t, dir, journalDir, data)
	}
	if kept == 0 {
		t.Error("in 20 rounds nothing of what was sent before the kill was kept")
	}
}

// resumes finishes the upload of another client and returns how many chunks of
// it it need not send again.
func resumes(t *testing.T, dir, journalDir string, data []byte) int {
	t.Helper()
	c := mustClient(t, stock(t), ClientOptions{Journals: journals{journalDir}})
	defer closeClient(t, c)
	have := 0
	if _, err := os.Stat(filepath.Join(dir, "f")); err != nil {
		u := killUpload(t, dir)
		u.Size, u.ChunkSize = int64(len(data)), mib
		w := begin(t, c, u)
		have = len(haveOf(w))
		if err := w.Recheck(t.Context(), func(i int64) { t.Errorf("chunk %d is not what the journal says", i) }); err != nil {
			t.Error(err)
		}
		if err := w.Suspend(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := putFile(t, c, killUpload(t, dir), data); err != nil {
		t.Fatal(err)
	}
	holds(t, filepath.Join(dir, "f"), data)
	return have
}

func TestKilledServerResumes(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	data := random(killSize)
	for range 20 {
		dir, journalDir := t.TempDir(), t.TempDir()
		var server atomic.Pointer[process]
		dial := stock(t)
		c := quick(mustClient(t, func(ctx context.Context) (io.ReadWriteCloser, error) {
			ch, err := dial(ctx)
			if p, ok := ch.(*process); ok {
				server.Store(p)
			}
			return ch, err
		}, ClientOptions{Journals: journals{journalDir}, Lanes: 2}))
		told, telling1 := io.Pipe()
		killed := make(chan struct{})
		go func() {
			defer close(killed)
			lines := bufio.NewScanner(told)
			for n := rand.IntN(24); n >= 0 && lines.Scan(); n-- {
			}
			_ = server.Load().cmd.Process.Kill()
			_, _ = io.Copy(io.Discard, told)
		}()
		_ = putFile(t, telling{c, telling1}, killUpload(t, dir), data) // dies or was quicker
		_ = telling1.Close()
		<-killed
		closeClient(t, c)
		resumes(t, dir, journalDir, data)
	}
}
