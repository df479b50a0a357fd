package session

import (
	"context"
	"errors"

	"transferd/internal/tree"
)

// OpenFile implements tree.FS. Without the right to truncate, OpenTruncate
// opens what is empty or not there yet, and is denied where there is something
// to lose.
func (s *Session) OpenFile(ctx context.Context, p tree.Path, flags tree.OpenFlags, perm tree.Perm) (tree.File, error) {
	const writing = tree.OpenWrite | tree.OpenCreate | tree.OpenExclusive | tree.OpenTruncate | tree.OpenAppend
	if flags&tree.OpenRead != 0 || flags&writing == 0 {
		if err := s.allow(opRead, p); err != nil {
			return nil, err
		}
	}
	if flags&writing != 0 {
		if err := s.allow(opWrite, p); err != nil {
			return nil, err
		}
	}
	var denied error
	if flags&tree.OpenTruncate != 0 {
		denied = s.allow(opTruncate, p)
	}
	if denied != nil {
		flags &^= tree.OpenTruncate
	}
	below, err := s.fs.OpenFile(ctx, p, flags, perm)
	if err != nil {
		return nil, err
	}
	f := &file{File: below, session: s, path: p, write: flags&writing != 0}
	if denied == nil {
		return f, nil
	}
	e, err := below.Stat(ctx)
	if err == nil && e.Size > 0 {
		err = denied
	}
	if err != nil {
		return nil, errors.Join(err, below.Close())
	}
	return f, nil
}

// A file is an open file of a session. What opening it asked for is settled;
// what else can be done with it is asked for here.
type file struct {
	tree.File
	session *Session
	path    tree.Path
	write   bool // opened for writing
}

var (
	_ tree.File         = (*file)(nil)
	_ tree.ExtentReader = (*file)(nil)
)

// SetAttr implements tree.File.
func (f *file) SetAttr(ctx context.Context, attr tree.Attr) error {
	if err := f.session.allow(opSetAttr, f.path); err != nil {
		return err
	}
	if attr.Size != nil {
		if !f.write {
			return deny(opTruncate, f.path)
		}
		if denied := f.session.allow(opTruncate, f.path); denied != nil {
			e, err := f.File.Stat(ctx)
			if err != nil {
				return err
			}
			if *attr.Size < e.Size {
				return denied
			}
		}
	}
	return f.File.SetAttr(ctx, attr)
}

// WriteAt implements io.WriterAt.
func (f *file) WriteAt(p []byte, off int64) (int, error) {
	if !f.write {
		return 0, deny(opWrite, f.path)
	}
	return f.File.WriteAt(p, off)
}

// Extents implements tree.ExtentReader where the file beneath does; elsewhere
// the whole file counts as data.
func (f *file) Extents(ctx context.Context) ([]tree.Extent, error) {
	if r, ok := f.File.(tree.ExtentReader); ok {
		return r.Extents(ctx)
	}
	e, err := f.File.Stat(ctx)
	if err != nil || e.Size == 0 {
		return nil, err
	}
	return []tree.Extent{{Length: e.Size}}, nil
}
