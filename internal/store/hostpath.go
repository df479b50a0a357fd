package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"transferd/internal/tree"
)

// HostPath returns the Path in a Host store of what a person wrote for this
// system: absolute, or relative to the working directory. ".." is resolved as
// the system does: what is before it is looked up, symlinks and all, and must
// exist. Other symlinks stay in the path.
func HostPath(osPath string) (tree.Path, error) {
	if osPath == "" {
		return "", &fs.PathError{Op: "open", Path: osPath, Err: fs.ErrNotExist}
	}
	path := filepath.FromSlash(osPath)
	if !filepath.IsAbs(path) {
		wd, err := os.Getwd()
		if err != nil {
			return "", err // names the call
		}
		// Not filepath.Join, which would take ".." back by the text alone.
		path = wd + string(filepath.Separator) + path
	}
	volume := filepath.VolumeName(path)
	real := volume + string(filepath.Separator)
	for elem := range strings.SplitSeq(path[len(volume):], string(filepath.Separator)) {
		switch elem {
		case "", ".":
		case "..":
			resolved, err := filepath.EvalSymlinks(real)
			if err != nil {
				var pe *fs.PathError
				if errors.As(err, &pe) {
					err = pe.Err
				}
				return "", &fs.PathError{Op: "open", Path: osPath, Err: err}
			}
			real = filepath.Dir(resolved)
		default:
			real = filepath.Join(real, elem)
		}
	}
	return tree.ParsePath(filepath.ToSlash(real))
}
