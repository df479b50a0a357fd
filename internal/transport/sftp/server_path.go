package sftp

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"transferd/internal/tree"
)

// maxLinks is how many symlinks a path may lead through, as on Linux.
const maxLinks = 40

var (
	errPermission   = fs.ErrPermission
	errTooManyLinks = errors.New("too many levels of symbolic links")
)

// path returns what a client's text names: relative ones start at Home.
func (s *server) path(text string) (tree.Path, error) {
	if !strings.HasPrefix(text, "/") {
		text = s.o.Home.String() + "/" + text
	}
	return tree.ParsePath(text)
}

// resolve returns the path of text without symlinks and with ".." taken as the
// system takes it, like realpath(3); as with OpenSSH, the last element need not
// exist.
func (s *server) resolve(text string) (tree.Path, error) {
	if strings.IndexByte(text, 0) >= 0 {
		return tree.ParsePath(text)
	}
	if !strings.HasPrefix(text, "/") {
		text = s.o.Home.String() + "/" + text
	}
	cur, rest, links := tree.Root, text, 0
	for {
		var elem string
		elem, rest, _ = strings.Cut(strings.TrimLeft(rest, "/"), "/")
		switch elem {
		case "":
			return cur, nil // the end: all slashes before it were trimmed
		case ".":
			continue
		case "..":
			cur = cur.Parent()
			continue
		}
		next := cur.Join(elem)
		e, err := s.fs.Lstat(s.ctx, next)
		last := strings.Trim(rest, "/") == ""
		switch {
		case errors.Is(err, fs.ErrNotExist) && last:
			return next, nil
		case errors.Is(err, errPermission):
			// A login that may not look still asks where it is.
			return tree.ParsePath(next.String() + "/" + rest)
		case err != nil:
			return "", err
		case e.Kind == tree.KindSymlink:
			if links++; links > maxLinks {
				return "", fmt.Errorf("%s: %w", next, errTooManyLinks)
			}
			if strings.HasPrefix(e.Link, "/") {
				// Some trees refuse absolute symlinks: what cannot be used has
				// no real path either.
				if _, err := s.fs.Stat(s.ctx, next); err != nil && !errors.Is(err, fs.ErrNotExist) {
					return "", err
				}
				cur = tree.Root
			}
			rest = e.Link + "/" + rest
		case !e.IsDir() && !last:
			return "", fmt.Errorf("%s: %w", next, tree.ErrNotDir)
		default:
			cur = next
		}
	}
}

// expand is resolve with "~" and "~user" at the beginning.
func (s *server) expand(text string) (tree.Path, error) {
	rest, ok := strings.CutPrefix(text, "~")
	if !ok {
		return s.resolve(text)
	}
	user, rest, _ := strings.Cut(rest, "/")
	home, err := s.homeOf(user)
	if err != nil {
		return "", err
	}
	return s.resolve("/" + home.String() + "/" + rest)
}

// homeOf returns the home of user, "" being whoever is logged in.
func (s *server) homeOf(user string) (tree.Path, error) {
	if user == "" {
		return s.o.Home, nil
	}
	if s.o.Homes == nil {
		return "", fmt.Errorf("home of %q: %w", user, fs.ErrNotExist)
	}
	return s.o.Homes(user)
}

// readlink returns the target of symlink p as it is stored.
func (s *server) readlink(p tree.Path) (string, error) {
	e, err := s.fs.Lstat(s.ctx, p)
	if err != nil {
		return "", err
	}
	if e.Kind != tree.KindSymlink {
		return "", fmt.Errorf("%w: %s is no symbolic link", tree.ErrBadPath, p)
	}
	return e.Link, nil
}

// textOf returns p as clients see it.
func textOf(p tree.Path) string {
	if p == tree.Root {
		return "/"
	}
	return "/" + p.String()
}
