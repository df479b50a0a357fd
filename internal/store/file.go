package store

import (
	"context"
	"os"
	"sync"

	"transferd/internal/tree"
)

// OpenFile opens p for access that is not a copy.
func (s *Store) OpenFile(ctx context.Context, p tree.Path, flags tree.OpenFlags, perm tree.Perm) (tree.File, error) {
	return s.openFile(ctx, p, flags, perm)
}

func (s *Store) openFile(ctx context.Context, p tree.Path, flags tree.OpenFlags, perm tree.Perm) (*file, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	// Appends are placed by file.WriteAt: with O_APPEND the system would
	// ignore the offsets of everything.
	how := os.O_RDONLY
	switch {
	case flags&tree.OpenRead != 0 && flags&(tree.OpenWrite|tree.OpenAppend) != 0:
		how = os.O_RDWR
	case flags&(tree.OpenWrite|tree.OpenAppend) != 0:
		how = os.O_WRONLY
	}
	exclusive := flags&tree.OpenExclusive != 0 && flags&tree.OpenCreate != 0
	if flags&tree.OpenCreate != 0 {
		how |= os.O_CREATE
		if exclusive {
			how |= os.O_EXCL
		}
	}
	if flags&tree.OpenTruncate != 0 {
		how |= os.O_TRUNC
	}
	f, err := s.lookup(p, how, perm&0o777, !exclusive)
	if err != nil {
		return nil, s.fail("open", p, err)
	}
	file := &file{s: s, p: p, os: f, append: flags&tree.OpenAppend != 0}
	if how&os.O_CREATE != 0 && tree.IsPartialName(p.Base()) {
		// A shared lock tells Sweep that somebody is writing it.
		_ = s.hub.sys.lock(f, true)
		s.hub.index.add(ctx, s, p.Parent().String())
		s.hub.begun.Add(1)
	}
	return file, nil
}

// A file is an open regular file.
type file struct {
	s      *Store
	p      tree.Path
	os     *os.File
	append bool
}

func (f *file) fail(op string, err error) error { return f.s.fail(op, f.p, err) }

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.os.ReadAt(p, off)
	if err == nil || isEOF(err) {
		return n, err // io.ReaderAt owes a bare io.EOF
	}
	return n, f.fail("read", err)
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	if !f.append {
		n, err := f.s.hub.sys.write(f.os, p, off)
		return n, f.fail("write", err)
	}
	e, err := fileEntry(f.os, "")
	if err != nil {
		return 0, f.fail("write", err)
	}
	// Other handles may append to the same file.
	mu := f.s.hub.appendLock(e.Inode)
	mu.Lock()
	defer mu.Unlock()
	if e, err = fileEntry(f.os, ""); err != nil {
		return 0, f.fail("write", err)
	}
	n, err := f.s.hub.sys.write(f.os, p, e.Size)
	return n, f.fail("write", err)
}

func (h *hub) appendLock(inode uint64) *sync.Mutex {
	return &h.appends[inode%uint64(len(h.appends))]
}

func (f *file) Stat(ctx context.Context) (tree.Entry, error) {
	if err := ctx.Err(); err != nil {
		return tree.Entry{}, err
	}
	e, err := fileEntry(f.os, f.p.Base())
	if err != nil {
		return tree.Entry{}, f.fail("stat", err)
	}
	f.s.hub.names.fill(&e)
	return e, nil
}

func (f *file) SetAttr(ctx context.Context, attr tree.Attr) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return f.fail("set attributes of", f.s.hub.setFileAttr(f.os, attr))
}

func (f *file) Sync(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return f.fail("sync", f.s.hub.sys.sync(f.os))
}

func (f *file) Close() error { return f.fail("close", f.os.Close()) }
