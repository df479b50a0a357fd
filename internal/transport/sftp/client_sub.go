package sftp

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"strings"
	"sync"

	"transferd/internal/tree"
)

// knownDirs bounds how many directories a subTree remembers.
const knownDirs = 1 << 16

// A subTree is the part of a server below one directory. SFTP has no handle that
// could hold it, so every directory on the way is looked at once: a symlink
// that leads out is refused. Whoever can change names on the server while a
// copy runs can still redirect it, as with every client of SFTP.
type subTree struct {
	c    *Client
	root tree.Path // as the server resolved it

	mu     sync.Mutex
	dirs   map[tree.Path]struct{} // below root, seen to stay inside
	closed bool
}

var (
	_ tree.SubTree = (*subTree)(nil)
	_ tree.Linker  = (*subTree)(nil)
	_ tree.Spacer  = (*subTree)(nil)
	_ tree.Carrier = (*subTree)(nil)
)

// Sub implements tree.Suber.
func (c *Client) Sub(ctx context.Context, p tree.Path) (tree.SubTree, error) {
	root, err := c.RealPath(ctx, remote(p))
	if err != nil {
		return nil, err
	}
	e, err := c.Stat(ctx, root)
	if err != nil {
		return nil, err
	}
	if !e.IsDir() {
		return nil, pathError("open", c.name(p), tree.ErrNotDir)
	}
	return &subTree{c: c, root: root, dirs: map[tree.Path]struct{}{tree.Root: {}}}, nil
}

// Close implements io.Closer. The lanes belong to the Client.
func (s *subTree) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

// Sub implements tree.Suber.
func (s *subTree) Sub(ctx context.Context, p tree.Path) (tree.SubTree, error) {
	abs, err := s.inside(ctx, p)
	if err != nil {
		return nil, err
	}
	return s.c.Sub(ctx, abs)
}

// Transport implements tree.Carrier.
func (s *subTree) Transport() string { return s.c.Transport() }

// at returns the path of p on the server. Its last element is not followed.
func (s *subTree) at(ctx context.Context, p tree.Path) (tree.Path, error) {
	if p == tree.Root {
		return s.root, nil
	}
	if err := s.holds(ctx, p.Parent()); err != nil {
		return "", err
	}
	return s.root.Append(p), nil
}

// inside returns the path of directory p, to be followed, on the server.
func (s *subTree) inside(ctx context.Context, p tree.Path) (tree.Path, error) {
	if err := s.holds(ctx, p); err != nil {
		return "", err
	}
	return s.root.Append(p), nil
}

// holds checks that no element of p leads out, from the top down.
func (s *subTree) holds(ctx context.Context, p tree.Path) error {
	s.mu.Lock()
	_, known := s.dirs[p]
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return pathError("open", s.c.name(s.root), tree.ErrClosed)
	}
	if known {
		return nil
	}
	if err := s.holds(ctx, p.Parent()); err != nil {
		return err
	}
	e, err := s.c.Lstat(ctx, s.root.Append(p))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nothing there that could lead anywhere
	}
	if err == nil && e.Kind == tree.KindSymlink {
		_, err = s.resolve(ctx, p)
	}
	if err != nil {
		return err
	}
	if e.Kind != tree.KindDir && e.Kind != tree.KindSymlink {
		return nil // the operation finds out
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.dirs) >= knownDirs {
		s.dirs = map[tree.Path]struct{}{tree.Root: {}}
	}
	s.dirs[p] = struct{}{}
	return nil
}

// resolve follows the symlink p and refuses it if it leads out.
func (s *subTree) resolve(ctx context.Context, p tree.Path) (tree.Path, error) {
	to, err := s.c.RealPath(ctx, remote(s.root.Append(p)))
	if err != nil {
		return "", err
	}
	if s.root != tree.Root && to != s.root && !strings.HasPrefix(string(to), string(s.root)+"/") {
		return "", pathError("open", s.c.name(s.root.Append(p)), fmt.Errorf("%w: symlink to %s", tree.ErrEscape, remote(to)))
	}
	return to, nil
}

// changed forgets what was known below p.
func (s *subTree) changed(p tree.Path) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.dirs[p]; known {
		s.dirs = map[tree.Path]struct{}{tree.Root: {}}
	}
}

// follow returns what p leads to: its path on the server and what is there.
func (s *subTree) follow(ctx context.Context, p tree.Path) (tree.Path, tree.Entry, error) {
	abs, err := s.at(ctx, p)
	if err != nil {
		return "", tree.Entry{}, err
	}
	e, err := s.c.Lstat(ctx, abs)
	if err != nil || e.Kind != tree.KindSymlink {
		return abs, e, err
	}
	if abs, err = s.resolve(ctx, p); err != nil {
		return "", tree.Entry{}, err
	}
	e, err = s.c.Lstat(ctx, abs)
	return abs, e, err
}

// Stat implements tree.Source.
func (s *subTree) Stat(ctx context.Context, p tree.Path) (tree.Entry, error) {
	_, e, err := s.follow(ctx, p)
	e.Name = p.Base()
	return e, err
}

// Lstat implements tree.Source.
func (s *subTree) Lstat(ctx context.Context, p tree.Path) (tree.Entry, error) {
	abs, err := s.at(ctx, p)
	if err != nil {
		return tree.Entry{}, err
	}
	e, err := s.c.Lstat(ctx, abs)
	e.Name = p.Base()
	return e, err
}

// List implements tree.Source.
func (s *subTree) List(ctx context.Context, p tree.Path) iter.Seq2[tree.Entry, error] {
	return func(yield func(tree.Entry, error) bool) {
		abs, err := s.inside(ctx, p)
		if err != nil {
			yield(tree.Entry{}, err)
			return
		}
		s.c.List(ctx, abs)(yield)
	}
}

// Open implements tree.Source; Client.Open says how long the reader lives.
func (s *subTree) Open(ctx context.Context, p tree.Path) (tree.Reader, error) {
	abs, e, err := s.follow(ctx, p)
	if err != nil {
		return nil, err
	}
	return s.c.openAs(ctx, abs, &e)
}

// Begin implements tree.Sink. A symlink at the final name is replaced itself.
func (s *subTree) Begin(ctx context.Context, u tree.Upload) (tree.Writer, error) {
	abs, err := s.at(ctx, u.Path)
	if err != nil {
		return nil, err
	}
	u.Path = abs
	return s.c.begin(ctx, u, false)
}

// Mkdir implements tree.Names.
func (s *subTree) Mkdir(ctx context.Context, p tree.Path, perm tree.Perm) error {
	abs, err := s.at(ctx, p)
	if err != nil {
		return err
	}
	return s.c.Mkdir(ctx, abs, perm)
}

// Symlink implements tree.Names.
func (s *subTree) Symlink(ctx context.Context, target string, p tree.Path) error {
	abs, err := s.at(ctx, p)
	if err != nil {
		return err
	}
	return s.c.Symlink(ctx, target, abs)
}

// Rename implements tree.Names.
func (s *subTree) Rename(ctx context.Context, from, to tree.Path, how tree.RenameMode) error {
	absFrom, err := s.at(ctx, from)
	if err != nil {
		return err
	}
	absTo, err := s.at(ctx, to)
	if err != nil {
		return err
	}
	defer s.changed(from)
	defer s.changed(to)
	return s.c.Rename(ctx, absFrom, absTo, how)
}

// Remove implements tree.Names.
func (s *subTree) Remove(ctx context.Context, p tree.Path) error {
	abs, err := s.at(ctx, p)
	if err != nil {
		return err
	}
	defer s.changed(p)
	return s.c.Remove(ctx, abs)
}

// SetAttr implements tree.Names.
func (s *subTree) SetAttr(ctx context.Context, p tree.Path, attr tree.Attr) error {
	abs, err := s.at(ctx, p)
	if err != nil {
		return err
	}
	return s.c.SetAttr(ctx, abs, attr)
}

// Link implements tree.Linker.
func (s *subTree) Link(ctx context.Context, from, to tree.Path) error {
	absFrom, err := s.at(ctx, from)
	if err != nil {
		return err
	}
	absTo, err := s.at(ctx, to)
	if err != nil {
		return err
	}
	return s.c.Link(ctx, absFrom, absTo)
}

// StatFS implements tree.Spacer.
func (s *subTree) StatFS(ctx context.Context, p tree.Path) (tree.Space, error) {
	abs, err := s.inside(ctx, p)
	if err != nil {
		return tree.Space{}, err
	}
	return s.c.StatFS(ctx, abs)
}
