package store

import (
	"errors"
	"hash/fnv"
	"os"
	"path/filepath"
	"time"

	"transferd/internal/tree"
)

// A dir is a held directory. Its methods take one element as name. Here they go
// through os.Root, which follows a symlink where that stays in the directory.
type dir struct {
	root *os.Root
	shut bool // root is ours to close
}

// A dirID tells one directory from another, by its path here.
type dirID struct{ dev, ino uint64 }

func (d *dir) Close() error {
	if !d.shut {
		return nil
	}
	return d.root.Close()
}

func (d *dir) id() (dirID, error) {
	h := fnv.New64a()
	_, _ = h.Write([]byte(d.root.Name())) // never fails
	return dirID{ino: h.Sum64()}, nil
}

func (d *dir) lstat(name string) (tree.Entry, error) {
	info, err := d.root.Lstat(name)
	if err != nil {
		return tree.Entry{}, err
	}
	e := entryOf(name, info)
	if e.Kind == tree.KindSymlink {
		if e.Link, err = d.root.Readlink(name); err != nil {
			return tree.Entry{}, err
		}
		e.Link = filepath.ToSlash(e.Link)
	}
	return e, nil
}

func (d *dir) open(name string, flags int, perm tree.Perm, special bool) (*os.File, error) {
	f, err := d.root.OpenFile(name, flags, os.FileMode(perm&0o777))
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !special && !info.Mode().IsRegular() {
		err = notRegular(tree.KindOf(info.Mode()), nil)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (d *dir) openList(name string) (*os.File, *dir, error) {
	r, err := d.root.OpenRoot(name)
	if err != nil {
		return nil, nil, err
	}
	f, err := r.Open(".")
	if err != nil {
		return nil, nil, errors.Join(err, r.Close())
	}
	return f, &dir{root: r}, nil
}

func (d *dir) mkdir(name string, perm tree.Perm) error {
	return d.root.Mkdir(name, os.FileMode(perm&0o777))
}

func (d *dir) symlink(target, name string) error {
	return d.root.Symlink(filepath.FromSlash(target), name)
}

func (d *dir) path(name string) string { return filepath.Join(d.root.Name(), name) }

func (d *dir) link(name string, to *dir, newName string) error {
	return os.Link(d.path(name), to.path(newName))
}

func (d *dir) rename(name string, to *dir, newName string) error {
	return os.Rename(d.path(name), to.path(newName))
}

func (d *dir) remove(name string) error { return d.root.Remove(name) }

func (d *dir) chown(string, tree.Owner) error { return errors.ErrUnsupported }

func (d *dir) chmod(name string, perm tree.Perm) error {
	return d.root.Chmod(name, os.FileMode(perm&0o777))
}

func (d *dir) chtimes(name string, atime, mtime *time.Time) error {
	var a, m time.Time // zero: stays
	if atime != nil {
		a = *atime
	}
	if mtime != nil {
		m = *mtime
	}
	return d.root.Chtimes(name, a, m)
}

// sync does nothing: directories have no fsync here.
func (d *dir) sync() error { return nil }

func (d *dir) parent() (*dir, error) { return nil, errors.ErrUnsupported }

func entryOf(name string, info os.FileInfo) tree.Entry {
	return tree.Entry{
		Name:  name,
		Kind:  tree.KindOf(info.Mode()),
		Size:  info.Size(),
		Perm:  tree.PermOf(info.Mode()),
		Mtime: info.ModTime(),
		Atime: info.ModTime(),
		Nlink: 1,
		Grain: 100 * time.Nanosecond,
	}
}

// base is the root of a tree: of a confined one its handle, of the host
// nothing.
type base struct {
	root *os.Root
}

func openBase(r *os.Root) (base, error) { return base{root: r}, nil }

func (b base) Close() error {
	if b.root == nil {
		return nil
	}
	return b.root.Close()
}

func (b base) openDir(_ *calls, path string) (*dir, error) {
	if b.root == nil {
		return openHostDir(hostPath(path))
	}
	r, err := b.root.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	return &dir{root: r, shut: true}, nil
}

func (b base) openRoot(p tree.Path) (*os.Root, error) {
	if b.root == nil {
		return os.OpenRoot(hostPath(p.String()))
	}
	return b.root.OpenRoot(p.String())
}

func openHostDir(path string) (*dir, error) {
	r, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	return &dir{root: r, shut: true}, nil
}

// hostPath makes an OS path of a Path of the host: "C:/x" is C:\x, and "C:" the
// root of the drive, not the directory where it stands.
func hostPath(path string) string {
	if len(path) == 2 && path[1] == ':' {
		path += "/"
	}
	return filepath.FromSlash(path)
}

func fileEntry(f *os.File, name string) (tree.Entry, error) {
	info, err := f.Stat()
	if err != nil {
		return tree.Entry{}, err
	}
	return entryOf(name, info), nil
}

func fileChown(*os.File, tree.Owner) error { return errors.ErrUnsupported }

func fileChmod(f *os.File, perm tree.Perm) error {
	return ignoreUnsupported(f.Chmod(os.FileMode(perm & 0o777)))
}

func ignoreUnsupported(err error) error {
	if isUnsupported(err) {
		return nil
	}
	return err
}

// isPrivate cannot tell owners here; the directory's own rights protect it.
func isPrivate(e tree.Entry) bool { return e.Kind == tree.KindFile }
