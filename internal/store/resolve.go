package store

import (
	"strings"

	"transferd/internal/tree"
)

// A place is where an operation acts: a held directory and one name in it. No
// operation on a place follows a symlink, so what happens to the path above it
// meanwhile cannot lead it elsewhere.
type place struct {
	dir    *dir
	name   string // one element; "." is the directory itself
	parent string // the path that led to dir, for the index; not clean
}

// maxLinks is how many symlinks may follow each other, as in Linux.
const maxLinks = 40

// dirAt opens the directory that path leads to. This is the one place where a
// confined tree and the host differ; what comes after it is the same.
func (s *Store) dirAt(path string) (*dir, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, tree.ErrClosed
	}
	return s.base.openDir(&s.hub.sys, path)
}

// locate returns the place of p, its last symlink not followed. The caller
// closes its directory.
func (s *Store) locate(p tree.Path) (place, error) {
	parent, name := split(string(p))
	d, err := s.dirAt(parent)
	if err != nil {
		return place{}, err
	}
	return place{dir: d, name: name, parent: parent}, nil
}

// follow returns the place that p leads to when its last symlinks are
// followed, and what is there. Where nothing is there, found is false and the
// place is where p would be made.
func (s *Store) follow(p tree.Path) (at place, e tree.Entry, found bool, err error) {
	path := string(p)
	for range maxLinks {
		parent, name := split(path)
		d, err := s.dirAt(parent)
		if err != nil {
			return place{}, tree.Entry{}, false, err
		}
		e, err := d.lstat(name)
		switch {
		case isNotExist(err):
			return place{d, name, parent}, tree.Entry{}, false, nil
		case err != nil:
			_ = d.Close()
			return place{}, tree.Entry{}, false, err
		case e.Kind != tree.KindSymlink:
			return place{d, name, parent}, e, true, nil
		}
		_ = d.Close()
		if path, err = s.target(parent, e.Link); err != nil {
			return place{}, tree.Entry{}, false, err
		}
	}
	return place{}, tree.Entry{}, false, errTooManyLinks
}

// target returns the path that link, found in directory parent, leads to.
func (s *Store) target(parent, link string) (string, error) {
	if isAbs(link) {
		if !s.isHost() {
			return "", tree.ErrEscape
		}
		return hostRelative(link), nil
	}
	// ".." in link is resolved by dirAt, from where parent really is.
	return parent + "/" + link, nil
}

// split parts path into its directory and its last element. What can only be a
// directory ("a/", "a/..", ".") is all directory, and "." its element.
func split(path string) (parent, name string) {
	i := strings.LastIndexByte(path, '/')
	parent, name = path[:max(i, 0)], path[i+1:]
	switch name {
	case "", ".", "..":
		parent, name = path, "."
	}
	if parent == "" {
		parent = "."
	}
	return parent, name
}
