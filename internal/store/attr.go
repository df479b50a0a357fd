package store

import (
	"fmt"
	"io/fs"
	"os"

	"transferd/internal/tree"
)

const setIDs tree.Perm = 0o6000

// allowedPerm returns what of perm may be set on e: only a tree with owners
// gives setuid and setgid, and the setgid that a directory inherited, which
// keeps a shared directory's group, stays.
func (h *hub) allowedPerm(perm tree.Perm, e tree.Entry) tree.Perm {
	if h.owners {
		return perm & tree.PermMask
	}
	perm &= tree.PermMask &^ setIDs
	if e.IsDir() {
		perm |= e.Perm & 0o2000
	}
	return perm
}

// allowOwner fails unless e may be given to o.
func (h *hub) allowOwner(o tree.Owner, e tree.Entry) (change bool, err error) {
	if e.UID == o.UID && e.GID == o.GID {
		return false, nil
	}
	if !h.owners {
		return false, fmt.Errorf("%w: owners are not changed here", fs.ErrPermission)
	}
	return true, nil
}

// setNameAttr changes attributes of what is at a place, symlinks themselves.
// Owner comes before mode, for chown takes setuid away; extended attributes
// too, for a mode may forbid them; and times are last, for everything else
// changes them.
func (h *hub) setNameAttr(at place, attr tree.Attr) error {
	if attr.Size != nil {
		f, err := at.dir.open(at.name, os.O_WRONLY, 0, false)
		if err != nil {
			return err
		}
		err = f.Truncate(*attr.Size)
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return err
		}
	}
	if attr.Owner != nil {
		if err := h.setNameOwner(at, *attr.Owner); err != nil {
			return err
		}
	}
	if attr.Xattrs != nil {
		if err := setNameXattrs(at, attr.Xattrs); err != nil {
			return err
		}
	}
	if attr.Perm != nil {
		e, err := at.dir.lstat(at.name)
		if err != nil {
			return err
		}
		if err := at.dir.chmod(at.name, h.allowedPerm(*attr.Perm, e)); err != nil {
			return err
		}
	}
	if attr.Mtime != nil || attr.Atime != nil {
		return at.dir.chtimes(at.name, attr.Atime, attr.Mtime)
	}
	return nil
}

func (h *hub) setNameOwner(at place, o tree.Owner) error {
	e, err := at.dir.lstat(at.name)
	if err != nil {
		return err
	}
	change, err := h.allowOwner(o, e)
	if err != nil || !change {
		return err
	}
	return at.dir.chown(at.name, o)
}

// setFileAttr changes attributes of an open file.
func (h *hub) setFileAttr(f *os.File, attr tree.Attr) error {
	if attr.Size != nil {
		if err := f.Truncate(*attr.Size); err != nil {
			return err
		}
	}
	if attr.Owner != nil || attr.Perm != nil || attr.Xattrs != nil {
		if err := h.setFileRights(f, attr); err != nil {
			return err
		}
	}
	if attr.Mtime != nil || attr.Atime != nil {
		return fileChtimes(f, attr.Atime, attr.Mtime)
	}
	return nil
}

func (h *hub) setFileRights(f *os.File, attr tree.Attr) error {
	e, err := fileEntry(f, "")
	if err != nil {
		return err
	}
	if attr.Owner != nil {
		change, err := h.allowOwner(*attr.Owner, e)
		if err != nil {
			return err
		}
		if change {
			if err := fileChown(f, *attr.Owner); err != nil {
				return err
			}
		}
	}
	if attr.Xattrs != nil {
		err := fileXattrs(f, func(x xattrs) error { return writeXattrs(x, attr.Xattrs) })
		if err != nil && (len(attr.Xattrs) > 0 || !isUnsupported(err)) {
			return err
		}
	}
	if attr.Perm == nil {
		return nil
	}
	return fileChmod(f, h.allowedPerm(*attr.Perm, e))
}
