package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// checkKeysFile refuses a file of keys that somebody could write with no more
// rights than to put files below their root: they would let in whom they like.
func checkKeysFile(file string, users []User) error {
	for _, u := range users {
		if u.Root == "" || !u.canChange() {
			continue
		}
		in, err := reaches(file, u.Root)
		if err != nil {
			return fmt.Errorf("%s: %w", file, bare(err))
		}
		if in {
			return fmt.Errorf("%s lies below %s, where %s can write and so could let in anyone; "+
				"keep the keys in another place outside that root, such as /etc/transferd/keys/%s "+
				"(accounts with --shell are exempt, but this version has no --shell)", file, u.Root, u.Name, u.Name)
		}
	}
	return nil
}

// canChange says that u can change files or names below the root.
func (u User) canChange() bool {
	return slices.Contains(u.Permissions, "write") || slices.Contains(u.Permissions, "delete")
}

// maxLinks is how many symlinks a path may lead through, as in Linux.
const maxLinks = 40

// reaches says whether path, followed as the system does, comes through a name
// below root at any step: then whoever can write below root decides where path
// leads. path is absolute. What does not exist (yet) is taken as it is written.
func reaches(path, root string) (bool, error) {
	root, err := filepath.EvalSymlinks(root)
	if err != nil {
		return false, nil //nolint:nilerr // a root that is not there is a fault of its own
	}
	if !filepath.IsAbs(path) {
		return false, errors.New("no absolute path")
	}
	volume := filepath.VolumeName(path)
	at, rest := volume+string(filepath.Separator), strings.TrimPrefix(path, volume)
	for links := 0; ; {
		var name string
		name, rest, _ = strings.Cut(strings.TrimLeft(rest, string(filepath.Separator)), string(filepath.Separator))
		if name == "" {
			return false, nil
		}
		if name == ".." {
			at = filepath.Dir(at) // at has no symlinks in it
			continue
		}
		next := filepath.Join(at, name)
		if below(next, root) {
			return true, nil
		}
		target, err := os.Readlink(next)
		if err != nil { // no symlink
			at = next
			continue
		}
		if links++; links > maxLinks {
			return false, errors.New("too many symlinks")
		}
		if filepath.IsAbs(target) {
			at, target = filepath.VolumeName(target)+string(filepath.Separator), strings.TrimPrefix(target, filepath.VolumeName(target))
		}
		rest = target + string(filepath.Separator) + rest
	}
}

// below says that path lies below root. Both are absolute and clean.
func below(path, root string) bool {
	rel, err := filepath.Rel(root, path)
	return err == nil && rel != "." && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

// bare leaves out operation and path, which the message says already.
func bare(err error) error {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err
	}
	return err
}
