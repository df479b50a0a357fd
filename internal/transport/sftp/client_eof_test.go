package sftp

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"transferd/internal/tree"
)

// A channel of package ssh that the server closed returns io.EOF from Write.
type closedByServer struct {
	io.ReadWriteCloser
	closed *atomic.Bool
}

func (c closedByServer) Write(p []byte) (int, error) {
	if c.closed.Load() {
		return 0, io.EOF
	}
	return c.ReadWriteCloser.Write(p)
}

func TestALostConnectionIsNotTheEndOfAFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(name, []byte("whole"), 0o600); err != nil {
		t.Fatal(err)
	}
	var closed atomic.Bool
	dial := ours(t)
	c := mustClient(t, func(ctx context.Context) (io.ReadWriteCloser, error) {
		ch, err := dial(ctx)
		return closedByServer{ch, &closed}, err
	}, ClientOptions{Lanes: 1})
	defer closeClient(t, c)
	r, err := c.Open(t.Context(), diskPath(t, name))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	closed.Store(true)
	if n, err := r.ReadAt(make([]byte, 5), 0); !errors.Is(err, tree.ErrLost) || errors.Is(err, io.EOF) {
		t.Errorf("ReadAt = %d, %v, want a lost connection", n, err)
	}
}
