package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"

	"transferd/internal/tree"
)

// Stat describes what p leads to.
func (s *Store) Stat(ctx context.Context, p tree.Path) (tree.Entry, error) {
	if err := ctx.Err(); err != nil {
		return tree.Entry{}, err
	}
	at, e, found, err := s.follow(p)
	if err != nil {
		return tree.Entry{}, s.fail("stat", p, err)
	}
	_ = at.dir.Close()
	if !found {
		return tree.Entry{}, s.fail("stat", p, fs.ErrNotExist)
	}
	e.Name = p.Base()
	s.hub.names.fill(&e)
	return e, nil
}

// Lstat describes p itself.
func (s *Store) Lstat(ctx context.Context, p tree.Path) (tree.Entry, error) {
	if err := ctx.Err(); err != nil {
		return tree.Entry{}, err
	}
	at, err := s.locate(p)
	if err != nil {
		return tree.Entry{}, s.fail("lstat", p, err)
	}
	defer func() { _ = at.dir.Close() }()
	e, err := at.dir.lstat(at.name)
	if err != nil {
		return tree.Entry{}, s.fail("lstat", p, err)
	}
	s.hub.names.fill(&e)
	return e, nil
}

// listBatch is how many names List reads at once: a directory of millions is
// never held in memory.
const listBatch = 512

// List yields the entries of the directory that p leads to.
func (s *Store) List(ctx context.Context, p tree.Path) iter.Seq2[tree.Entry, error] {
	return func(yield func(tree.Entry, error) bool) {
		if err := s.list(ctx, p, yield); err != nil {
			yield(tree.Entry{}, err)
		}
	}
}

func (s *Store) list(ctx context.Context, p tree.Path, yield func(tree.Entry, error) bool) error {
	at, e, found, err := s.follow(p)
	if err != nil {
		return s.fail("list", p, err)
	}
	defer func() { _ = at.dir.Close() }()
	switch {
	case !found:
		return s.fail("list", p, fs.ErrNotExist)
	case !e.IsDir():
		return s.fail("list", p, tree.ErrNotDir)
	}
	f, d, err := at.dir.openList(at.name)
	if err != nil {
		return s.fail("list", p, err)
	}
	defer func() { _ = f.Close() }()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		names, err := f.Readdirnames(listBatch)
		for _, name := range names {
			e, err := d.lstat(name)
			if isNotExist(err) {
				continue // removed meanwhile
			}
			if err != nil {
				return s.fail("lstat", p.Join(name), err)
			}
			s.hub.names.fill(&e)
			if !yield(e, nil) {
				return nil
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return s.fail("list", p, err)
		}
	}
}

// change runs act on the place of p.
func (s *Store) change(ctx context.Context, op string, p tree.Path, act func(at place) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	at, err := s.locate(p)
	if err != nil {
		return s.fail(op, p, err)
	}
	defer func() { _ = at.dir.Close() }()
	return s.fail(op, p, act(at))
}

// Mkdir makes directory p with perm, less what the umask takes away.
func (s *Store) Mkdir(ctx context.Context, p tree.Path, perm tree.Perm) error {
	return s.change(ctx, "mkdir", p, func(at place) error {
		if at.name == "." {
			return fs.ErrExist
		}
		if err := at.dir.mkdir(at.name, perm&0o1777); err != nil {
			return err
		}
		if tree.IsPartialName(at.name) {
			s.hub.index.add(ctx, s, at.parent)
		}
		s.unsynced.note(at.dir, p.Parent())
		return s.hub.noteMade(at)
	})
}

// Symlink makes p a symlink to target, whatever that is.
func (s *Store) Symlink(ctx context.Context, target string, p tree.Path) error {
	return s.change(ctx, "symlink", p, func(at place) error {
		if at.name == "." {
			return fs.ErrExist
		}
		s.unsynced.note(at.dir, p.Parent())
		return at.dir.symlink(target, at.name)
	})
}

// Remove removes a file, a symlink or an empty directory.
func (s *Store) Remove(ctx context.Context, p tree.Path) error {
	return s.change(ctx, "remove", p, func(at place) error {
		if at.name == "." {
			return fmt.Errorf("%w: the root stays", fs.ErrPermission)
		}
		defer s.hub.moved.Add(1) // what its name led to, it may no longer lead to
		return at.dir.remove(at.name)
	})
}

// SetAttr changes attributes of p itself, never of what it leads to.
func (s *Store) SetAttr(ctx context.Context, p tree.Path, attr tree.Attr) error {
	return s.change(ctx, "set attributes of", p, func(at place) error {
		return s.hub.setNameAttr(at, attr)
	})
}

// both runs act on the places of from and to.
func (s *Store) both(ctx context.Context, op string, from, to tree.Path, act func(from, to place) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	a, err := s.locate(from)
	if err != nil {
		return s.fail(op, from, err)
	}
	defer func() { _ = a.dir.Close() }()
	b, err := s.locate(to)
	if err != nil {
		return s.fail(op, to, err)
	}
	defer func() { _ = b.dir.Close() }()
	switch {
	case a.name == ".":
		return s.fail(op, from, fmt.Errorf("%w: the root stays", fs.ErrPermission))
	case b.name == ".":
		return s.fail(op, to, fs.ErrExist)
	}
	err = act(a, b)
	// Which of the two names is at fault the system does not say.
	culprit := from
	if errors.Is(err, fs.ErrExist) {
		culprit = to
	}
	return s.fail(op, culprit, err)
}

// Rename moves from to to in one step.
func (s *Store) Rename(ctx context.Context, from, to tree.Path, how tree.RenameMode) error {
	return s.both(ctx, "rename", from, to, func(a, b place) error {
		s.unsynced.note(b.dir, to.Parent())
		defer s.hub.moved.Add(1)
		if tree.IsPartialName(b.name) {
			s.hub.begun.Add(1)
		}
		if how == tree.RenameNoReplace {
			return s.hub.renameNoReplace(a, b)
		}
		return a.dir.rename(a.name, b.dir, b.name)
	})
}

// Link makes to another name of the file from. A symlink is linked itself.
func (s *Store) Link(ctx context.Context, from, to tree.Path) error {
	return s.both(ctx, "link", from, to, func(a, b place) error {
		return s.hub.sys.link(a.dir, a.name, b.dir, b.name)
	})
}

// renameNoReplace renames a to b unless b exists. Where the filesystem has no
// such call, a hard link does the same for files; where it has no hard links
// either, or a is a directory, there is a moment between the look and the
// rename.
func (h *hub) renameNoReplace(a, b place) error {
	err := h.sys.renameNoReplace(a.dir, a.name, b.dir, b.name)
	if !isUnsupported(err) {
		return err
	}
	e, err := a.dir.lstat(a.name)
	if err != nil {
		return err
	}
	if !e.IsDir() {
		switch err := h.sys.link(a.dir, a.name, b.dir, b.name); {
		case err == nil:
			return a.dir.remove(a.name)
		case errors.Is(err, fs.ErrExist):
			return err
		}
	}
	if _, err := b.dir.lstat(b.name); err == nil {
		return fs.ErrExist
	} else if !isNotExist(err) {
		return err
	}
	return a.dir.rename(a.name, b.dir, b.name)
}

// StatFS tells the space of the filesystem that holds p.
func (s *Store) StatFS(ctx context.Context, p tree.Path) (tree.Space, error) {
	if err := ctx.Err(); err != nil {
		return tree.Space{}, err
	}
	at, e, found, err := s.follow(p)
	if err != nil {
		return tree.Space{}, s.fail("statfs", p, err)
	}
	defer func() { _ = at.dir.Close() }()
	if !found {
		return tree.Space{}, s.fail("statfs", p, fs.ErrNotExist)
	}
	d := at.dir
	if e.IsDir() && at.name != "." { // p may be a mount point
		f, inside, err := at.dir.openList(at.name)
		if err == nil {
			defer func() { _ = f.Close() }()
			d = inside
		}
	}
	space, err := d.statfs()
	if err != nil {
		return tree.Space{}, s.fail("statfs", p, err)
	}
	return space, nil
}
