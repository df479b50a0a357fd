package sftp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"transferd/internal/testpeer"
	"transferd/internal/tree"
)

// process is a channel to a server that runs as a process of its own.
type process struct {
	io.WriteCloser
	io.Reader
	cmd  *exec.Cmd
	once sync.Once
}

func (p *process) Close() error {
	p.once.Do(func() {
		_ = p.WriteCloser.Close()
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	})
	return nil
}

// stock dials OpenSSH's own sftp-server.
func stock(t testing.TB) Dialer {
	t.Helper()
	path := testpeer.Need(t, "sftp-server")
	return func(context.Context) (io.ReadWriteCloser, error) {
		cmd := exec.Command(path)
		in, err := cmd.StdinPipe()
		if err != nil {
			return nil, err
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			return nil, err
		}
		return &process{WriteCloser: in, Reader: out, cmd: cmd}, cmd.Start()
	}
}

func newTestClient(t testing.TB, dial Dialer, o ClientOptions) *Client {
	t.Helper()
	c, err := NewClient(t.Context(), dial, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// diskPath is where path is in the tree of a server that shows the whole disk.
func diskPath(t testing.TB, path string) tree.Path {
	t.Helper()
	p, err := tree.ParsePath(filepath.ToSlash(path))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// journals keeps what is durable in files, each a line, without any of the care
// that a real one takes.
type journals struct{ dir string }

type journal struct {
	path      string
	have      map[int64]tree.Value
	unchanged bool

	mu sync.Mutex
	f  *os.File
}

type journalLine struct {
	Header *tree.JournalHeader
	Index  int64
	Value  tree.Value
	Forget bool
}

func (s journals) Lock(context.Context, string) (func(), error) { return func() {}, nil }

func (s journals) OpenJournal(_ context.Context, key string, h tree.JournalHeader) (tree.Journal, error) {
	j := &journal{path: filepath.Join(s.dir, fmt.Sprintf("%x", tree.ChunkValue([]byte(key), 0, 1<<20, true))), have: map[int64]tree.Value{}, unchanged: true}
	old, err := os.ReadFile(j.path)
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	for line := range bytes.Lines(old) {
		var l journalLine
		switch {
		case json.Unmarshal(line, &l) != nil:
		case l.Header != nil:
			if l.Header.Size != h.Size || l.Header.ChunkSize != h.ChunkSize {
				j.have = map[int64]tree.Value{}
			}
			j.unchanged = l.Header.Source == h.Source
		case l.Forget:
			delete(j.have, l.Index)
		default:
			j.have[l.Index] = l.Value
		}
	}
	j.f, err = os.OpenFile(j.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	return j, j.append(journalLine{Header: &h})
}

func (j *journal) append(l journalLine) error {
	b, err := json.Marshal(l)
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	_, err = j.f.Write(append(b, '\n'))
	return err
}

func (j *journal) Have() iter.Seq2[int64, tree.Value] { return maps.All(maps.Clone(j.have)) }
func (j *journal) Unchanged() bool                    { return j.unchanged }

func (j *journal) Record(chunks map[int64]tree.Value) error {
	for i, v := range chunks {
		if err := j.append(journalLine{Index: i, Value: v}); err != nil {
			return err
		}
	}
	return nil
}

func (j *journal) Forget(indexes []int64) error {
	for _, i := range indexes {
		if err := j.append(journalLine{Index: i, Forget: true}); err != nil {
			return err
		}
	}
	return nil
}

func (j *journal) Close() error  { return j.f.Close() }
func (j *journal) Remove() error { return errors.Join(j.f.Close(), os.Remove(j.path)) }
