package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"transferd/internal/tree"
)

var (
	// errBusy: somebody else holds the lock.
	errBusy = errors.New("locked")

	// errDead: an earlier fsync failed, so nothing later can be trusted.
	errDead = errors.New("a write to the disk was lost")
)

// fail says that op could not be done to p. The error wraps the sentinels that
// err stands for, and its text has no path but p: whoever sees a confined tree
// learns nothing of what is around it.
func (s *Store) fail(op string, p tree.Path, err error) error {
	if err == nil {
		return nil
	}
	path := s.at.Append(p).String()
	switch {
	case path == tree.Root.String():
		path = "/"
	case s.where == "":
		path = hostLabel + path
	}
	return &fs.PathError{Op: op, Path: path, Err: explain(err)}
}

// explain strips err of the operation and path that package os put around it,
// and adds the sentinel that it stands for.
func explain(err error) error {
	for {
		switch e := err.(type) { //nolint:errorlint // only the outermost: what others wrapped around it stays
		case *fs.PathError:
			err = e.Err
			continue
		case *os.LinkError:
			err = e.Err
			continue
		case *os.SyscallError:
			err = e.Err
			continue
		}
		switch is := classify(err); {
		case err.Error() == "path escapes from parent": // package os does not export it
			return tree.ErrEscape
		case errors.Is(err, fs.ErrClosed) && !errors.Is(err, tree.ErrClosed):
			return meaning{err, tree.ErrClosed}
		case is != nil && !errors.Is(err, is):
			return meaning{err, is}
		case err.Error() == "not a directory" && !errors.Is(err, tree.ErrNotDir): // nor does it export what OpenRoot says
			return tree.ErrNotDir
		}
		return err
	}
}

// meaning is an error of the system with the sentinel that it stands for.
type meaning struct{ err, is error }

func (m meaning) Error() string   { return m.err.Error() }
func (m meaning) Unwrap() []error { return []error{m.err, m.is} }

// notRegular says what is there instead of a regular file.
func notRegular(kind tree.Kind, cause error) error {
	switch {
	case kind == tree.KindDir:
		return meaning{tree.ErrIsDir, tree.ErrNotRegular}
	case kind != tree.KindUnknown:
		return fmt.Errorf("%w but a %v", tree.ErrNotRegular, kind)
	case cause != nil:
		return meaning{cause, tree.ErrNotRegular}
	}
	return tree.ErrNotRegular
}

func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// isEOF reports the bare io.EOF that io.ReaderAt owes.
func isEOF(err error) bool { return errors.Is(err, io.EOF) }
