package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"transferd/internal/tree"
)

const (
	userNamespace = "user."

	// What docs/protocol.md lets an entry have. The size of a value is that of
	// Linux too.
	maxXattrs     = 128
	maxXattrValue = 64 << 10
	maxXattrName  = 255
)

// Xattrs implements tree.Xattrer. Only files and directories can have any.
func (s *Store) Xattrs(ctx context.Context, p tree.Path) ([]tree.Xattr, error) {
	list := []tree.Xattr{}
	err := s.change(ctx, "read attributes of", p, func(at place) error {
		e, err := at.dir.lstat(at.name)
		if err != nil || (e.Kind != tree.KindFile && e.Kind != tree.KindDir) {
			return err
		}
		x, err := at.dir.openXattrs(at.name)
		if err != nil {
			return err
		}
		list, err = readXattrs(x)
		return errors.Join(err, x.Close())
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// setNameXattrs changes the extended attributes of what is at a place.
func setNameXattrs(at place, list []tree.Xattr) error {
	e, err := at.dir.lstat(at.name)
	if err != nil {
		return err
	}
	if e.Kind != tree.KindFile && e.Kind != tree.KindDir {
		if len(list) == 0 {
			return nil
		}
		return fmt.Errorf("%w: a %v has no extended attributes", errors.ErrUnsupported, e.Kind)
	}
	x, err := at.dir.openXattrs(at.name)
	if err != nil {
		return err
	}
	return errors.Join(writeXattrs(x, list), x.Close())
}

// xattrs are the extended attributes of one open file or directory, whose
// Close lets go of what openXattrs opened.
type xattrs interface {
	names() ([]string, error) // of every namespace
	get(name string) ([]byte, error)
	set(name string, value []byte) error
	remove(name string) error
	Close() error
}

// readXattrs returns those of the user's namespace, sorted by name.
func readXattrs(x xattrs) ([]tree.Xattr, error) {
	names, err := userXattrs(x)
	if err != nil {
		return nil, err
	}
	if len(names) > maxXattrs {
		return nil, fmt.Errorf("%w: %d extended attributes, at most %d", fs.ErrInvalid, len(names), maxXattrs)
	}
	list := make([]tree.Xattr, 0, len(names))
	for _, name := range names {
		value, err := x.get(name)
		if isNoXattr(err) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		list = append(list, tree.Xattr{Name: name, Value: value})
	}
	slices.SortFunc(list, func(a, b tree.Xattr) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}

func userXattrs(x xattrs) ([]string, error) {
	names, err := x.names()
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(names, func(name string) bool { return !strings.HasPrefix(name, userNamespace) }), nil
}

// writeXattrs makes list all that there is in the user's namespace.
func writeXattrs(x xattrs, list []tree.Xattr) error {
	if err := checkXattrs(list); err != nil {
		return err
	}
	names, err := userXattrs(x)
	if isUnsupported(err) && len(list) == 0 {
		return nil // where there are none, there are none
	}
	if err != nil {
		return err
	}
	for _, name := range names {
		if slices.ContainsFunc(list, func(a tree.Xattr) bool { return a.Name == name }) {
			continue
		}
		if err := x.remove(name); err != nil && !isNoXattr(err) {
			return err
		}
	}
	for _, a := range list {
		if err := x.set(a.Name, a.Value); err != nil {
			return err
		}
	}
	return nil
}

func checkXattrs(list []tree.Xattr) error {
	if len(list) > maxXattrs {
		return fmt.Errorf("%w: %d extended attributes, at most %d", fs.ErrInvalid, len(list), maxXattrs)
	}
	for _, a := range list {
		name, ok := strings.CutPrefix(a.Name, userNamespace)
		switch {
		case !ok || name == "" || len(a.Name) > maxXattrName || strings.IndexByte(name, 0) >= 0:
			return fmt.Errorf("%w: extended attribute %q", fs.ErrInvalid, a.Name)
		case len(a.Value) > maxXattrValue:
			return fmt.Errorf("%w: extended attribute %q of %d bytes", fs.ErrInvalid, a.Name, len(a.Value))
		}
	}
	return nil
}
