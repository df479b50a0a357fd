//go:build linux

package sftp

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"transferd/internal/tree"
)

// endlessFS has files of zeros without an end, each of which takes all that is
// written.
type endlessFS struct {
	tree.FS
	files atomic.Uint64
}

func (f *endlessFS) OpenFile(context.Context, tree.Path, tree.OpenFlags, tree.Perm) (tree.File, error) {
	return endless{inode: f.files.Add(1)}, nil
}

type endless struct {
	tree.File
	inode uint64
}

func (e endless) Stat(context.Context) (tree.Entry, error) { return tree.Entry{Inode: e.inode}, nil }
func (e endless) ReadAt(p []byte, _ int64) (int, error)    { return len(p), nil }
func (e endless) WriteAt(p []byte, _ int64) (int, error)   { return len(p), nil }
func (e endless) SetAttr(context.Context, tree.Attr) error { return nil }
func (e endless) Close() error                             { return nil }

// A sparse file of exabytes is made with one request and takes years to copy;
// without this it would hold its place among the connections as long.
func TestACopyInsideTheServerEndsWithItsClient(t *testing.T) {
	ours, theirs := net.Pipe()
	gone, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- Serve(context.Background(), theirs, &endlessFS{}, ServerOptions{Gone: gone}) }()
	p := &peer{t: t, conn: ours, in: packetReader{r: ours}, done: done}
	var w builder
	w.begin(typeInit)
	w.uint32(3)
	w.end()
	p.write(w.b)
	p.read()
	from, to := p.open("/a", openRead), p.open("/b", openWrite)
	p.write(p.request(typeExtended, extCopyData, from, uint64(0), uint64(0), to, uint64(0)))
	_ = ours.Close()
	close(gone)
	select {
	case err := <-done:
		if !errors.Is(err, errGone) {
			t.Errorf("Serve = %v, want errGone", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the copy goes on")
	}
}
