//go:build linux

package sftp

import (
	"context"
	"iter"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"

	"transferd/internal/tree"
)

// panicFS panics in one operation. Half of them run in goroutines that are
// pkg/sftp's own, where nobody else would catch it.
type panicFS struct {
	diskFS
	in string
}

func (f panicFS) OpenFile(ctx context.Context, p tree.Path, flags tree.OpenFlags, perm tree.Perm) (tree.File, error) {
	if f.in == "open" {
		panic("the test wants it")
	}
	file, err := f.diskFS.OpenFile(ctx, p, flags, perm)
	return panicFile{file, f.in}, err
}

func (f panicFS) Stat(ctx context.Context, p tree.Path) (tree.Entry, error) {
	if f.in == "stat" {
		panic("the test wants it")
	}
	return f.diskFS.Stat(ctx, p)
}

func (f panicFS) List(ctx context.Context, p tree.Path) iter.Seq2[tree.Entry, error] {
	if f.in == "list" {
		return func(func(tree.Entry, error) bool) { panic("the test wants it") }
	}
	return f.diskFS.List(ctx, p)
}

func (f panicFS) Remove(ctx context.Context, p tree.Path) error {
	if f.in == "remove" {
		panic("the test wants it")
	}
	return f.diskFS.Remove(ctx, p)
}

type panicFile struct {
	tree.File
	in string
}

func (f panicFile) ReadAt(p []byte, off int64) (int, error) {
	if f.in == "read" {
		panic("the test wants it")
	}
	return f.File.ReadAt(p, off)
}

func (f panicFile) Close() error {
	err := f.File.Close()
	if f.in == "close" {
		panic("the test wants it")
	}
	return err
}

func TestAPanicEndsItsSessionOnly(t *testing.T) {
	for _, in := range []string{"open", "stat", "list", "remove", "read", "close"} {
		t.Run(in, func(t *testing.T) {
			var log safeBuffer
			disk := newDiskFS(t)
			if err := os.WriteFile(disk.abs("file"), []byte("abc"), 0o600); err != nil {
				t.Fatal(err)
			}
			handles := NewHandles(10, nil)
			p := serve(t, panicFS{disk, in}, ServerOptions{Handles: handles, Log: slog.New(slog.NewTextHandler(&log, nil))})
			handle := ""
			if in == "read" || in == "close" {
				handle = p.open("/file", openRead)
			}
			requests := map[string][]byte{
				"open":   p.request(typeOpen, "/file", uint32(openRead), attrs{}),
				"stat":   p.request(typeStat, "/file"),
				"list":   p.request(typeOpendir, "/"),
				"remove": p.request(typeRemove, "/file"),
				"read":   p.request(typeRead, handle, uint64(0), uint32(3)),
				"close":  p.request(typeClose, handle),
			}
			p.write(requests[in])
			for {
				if _, err := p.in.next(); err != nil {
					break // the session has ended
				}
			}
			_ = p.end()
			if n := handles.left.Load(); n != 10 {
				t.Errorf("%d handles are left of 10", n)
			}
			if !strings.Contains(log.String(), "the test wants it") {
				t.Errorf("the log does not say what happened: %s", log.String())
			}
		})
	}
}

// A safeBuffer may be written by several goroutines.
type safeBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
