//go:build linux

package sftp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"
	"testing"
	"time"

	"transferd/internal/tree"
	"transferd/internal/tree/treetest"
)

// remoteFS is what a session of ours shows, as a tree again: one request at a
// time, and no cleverness of a client between the suite and the server.
type remoteFS struct {
	p  *peer
	mu *sync.Mutex
}

func TestServedTreeIsATree(t *testing.T) {
	limits := treetest.Limits{Grain: time.Second, NoHoles: true, NoSymlinkAttrs: true}
	treetest.RunFSLimited(t, limits, func(t *testing.T) tree.FS {
		t.Helper()
		return remoteFS{serve(t, newDiskFS(t), ServerOptions{}), new(sync.Mutex)}
	})
}

// ask returns the fields of the answer if it is of the type wanted.
func (r remoteFS) ask(want, kind packetType, fields ...any) (cursor, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	got, c := r.p.call(kind, fields...)
	if got == typeStatus {
		if err := errorOf(c.status()); err != nil {
			return c, fmt.Errorf("request %d: %w", kind, err)
		}
	} else if got != want {
		return c, fmt.Errorf("request %d answered with type %d", kind, got)
	}
	return c, nil
}

func (r remoteFS) Stat(_ context.Context, p tree.Path) (tree.Entry, error) {
	c, err := r.ask(typeAttrs, typeStat, textOf(p))
	return c.attrs().entry(p.Base()), err
}

func (r remoteFS) Lstat(_ context.Context, p tree.Path) (tree.Entry, error) {
	c, err := r.ask(typeAttrs, typeLstat, textOf(p))
	if err != nil {
		return tree.Entry{}, err
	}
	return r.withLink(c.attrs().entry(p.Base()), p)
}

func (r remoteFS) withLink(e tree.Entry, p tree.Path) (tree.Entry, error) {
	if e.Kind != tree.KindSymlink {
		return e, nil
	}
	c, err := r.ask(typeName, typeReadlink, textOf(p))
	c.uint32()
	e.Link = c.text()
	return e, err
}

func (r remoteFS) List(_ context.Context, p tree.Path) iter.Seq2[tree.Entry, error] {
	return func(yield func(tree.Entry, error) bool) {
		opened, err := r.ask(typeHandle, typeOpendir, textOf(p))
		if err != nil {
			yield(tree.Entry{}, err)
			return
		}
		h := opened.text()
		defer func() { _, _ = r.ask(typeStatus, typeClose, h) }()
		for {
			c, err := r.ask(typeName, typeReaddir, h)
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(tree.Entry{}, err)
				return
			}
			for n := c.uint32(); n > 0; n-- {
				name := c.text()
				c.text()
				e := c.attrs().entry(name)
				if name == "." || name == ".." {
					continue
				}
				if e, err = r.withLink(e, p.Join(name)); !yield(e, err) {
					return
				}
			}
		}
	}
}

func (r remoteFS) Open(ctx context.Context, p tree.Path) (tree.Reader, error) {
	e, err := r.Stat(ctx, p)
	if err == nil && e.Kind != tree.KindFile {
		err = tree.ErrNotRegular
	}
	if err != nil {
		return nil, err
	}
	return r.OpenFile(ctx, p, tree.OpenRead, 0)
}

func (r remoteFS) Mkdir(_ context.Context, p tree.Path, perm tree.Perm) error {
	_, err := r.ask(typeStatus, typeMkdir, textOf(p), attrsFor(tree.Attr{Perm: &perm}))
	return err
}

func (r remoteFS) Symlink(_ context.Context, target string, p tree.Path) error {
	_, err := r.ask(typeStatus, typeSymlink, target, textOf(p))
	return err
}

func (r remoteFS) Rename(_ context.Context, from, to tree.Path, how tree.RenameMode) error {
	if how == tree.RenameNoReplace {
		_, err := r.ask(typeStatus, typeRename, textOf(from), textOf(to))
		return err
	}
	_, err := r.ask(typeStatus, typeExtended, extPosixRename, textOf(from), textOf(to))
	return err
}

func (r remoteFS) Remove(ctx context.Context, p tree.Path) error {
	kind := typeRemove
	if e, err := r.Lstat(ctx, p); err == nil && e.IsDir() {
		kind = typeRmdir
	}
	_, err := r.ask(typeStatus, kind, textOf(p))
	return err
}

func (r remoteFS) SetAttr(_ context.Context, p tree.Path, attr tree.Attr) error {
	if attr.Size != nil {
		if _, err := r.ask(typeStatus, typeSetstat, textOf(p), attrsFor(tree.Attr{Size: attr.Size})); err != nil {
			return err
		}
		attr.Size = nil
	}
	_, err := r.ask(typeStatus, typeExtended, extLsetstat, textOf(p), attrsFor(attr))
	return err
}

func (r remoteFS) Link(_ context.Context, from, to tree.Path) error {
	_, err := r.ask(typeStatus, typeExtended, extHardlink, textOf(from), textOf(to))
	return err
}

func (r remoteFS) StatFS(_ context.Context, p tree.Path) (tree.Space, error) {
	c, err := r.ask(typeExtendedReply, typeExtended, extStatVFS, textOf(p))
	block := c.uint64()
	c.uint64()
	s := tree.Space{
		BlockSize: block, Total: c.uint64() * block, Free: c.uint64() * block, Available: c.uint64() * block,
		Files: c.uint64(), FilesFree: c.uint64(), FilesAvail: c.uint64(), FilesystemID: c.uint64(),
	}
	c.uint64()
	s.MaxName = c.uint64()
	return s, err
}

func (r remoteFS) OpenFile(_ context.Context, p tree.Path, flags tree.OpenFlags, perm tree.Perm) (tree.File, error) {
	var f uint32
	for ours, theirs := range map[tree.OpenFlags]uint32{
		tree.OpenRead: openRead, tree.OpenWrite: openWrite, tree.OpenCreate: openCreate,
		tree.OpenExclusive: openExcl, tree.OpenTruncate: openTrunc, tree.OpenAppend: openAppend,
	} {
		if flags&ours != 0 {
			f |= theirs
		}
	}
	c, err := r.ask(typeHandle, typeOpen, textOf(p), f, attrsFor(tree.Attr{Perm: &perm}))
	if err != nil {
		return nil, err
	}
	return remoteFile{r, p, c.text()}, nil
}

type remoteFile struct {
	fs     remoteFS
	path   tree.Path
	handle string
}

func (f remoteFile) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) {
		c, err := f.fs.ask(typeData, typeRead, f.handle, uint64(off)+uint64(n), uint32(min(len(p)-n, maxData)))
		if errors.Is(err, io.EOF) {
			return n, io.EOF
		}
		if err != nil {
			return n, err
		}
		n += copy(p[n:], c.bytes())
	}
	return n, nil
}

func (f remoteFile) WriteAt(p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) {
		part := p[n:min(len(p), n+maxData)]
		if _, err := f.fs.ask(typeStatus, typeWrite, f.handle, uint64(off)+uint64(n), part); err != nil {
			return n, err
		}
		n += len(part)
	}
	return n, nil
}

func (f remoteFile) Close() error {
	_, err := f.fs.ask(typeStatus, typeClose, f.handle)
	return err
}

func (f remoteFile) Stat(context.Context) (tree.Entry, error) {
	c, err := f.fs.ask(typeAttrs, typeFstat, f.handle)
	return c.attrs().entry(f.path.Base()), err
}

func (f remoteFile) SetAttr(_ context.Context, attr tree.Attr) error {
	_, err := f.fs.ask(typeStatus, typeFsetstat, f.handle, attrsFor(attr))
	return err
}

func (f remoteFile) Sync(context.Context) error {
	_, err := f.fs.ask(typeStatus, typeExtended, extFsync, f.handle)
	return err
}
