package sftp

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/pkg/sftp"

	"transferd/internal/tree"
)

// isFailure reports whether the server said no without saying why: version 3
// has no codes for "exists", "not empty" or "disk full".
func isFailure(err error) bool {
	var s *StatusError
	return errors.As(err, &s) && code(s.Code) == codeFailure
}

// orDisk adds to a refusal without a reason what is probably behind it: that the
// disk of dir cannot be written to or, where bytes were to be stored, is full.
func (l *lane) orDisk(ctx context.Context, err error, dir string, storing bool) error {
	if !isFailure(err) {
		return err
	}
	space, serr := l.statFS(ctx, dir)
	switch {
	case serr != nil:
		return err
	case space.ReadOnly:
		return fmt.Errorf("%w: %w", errReadOnly, err)
	// The server may have stopped a packet short of the very end.
	case storing && (space.Available < max(maxData, space.BlockSize) || space.Files > 0 && space.FilesAvail == 0):
		return fmt.Errorf("%w: %w", tree.ErrNoSpace, err)
	}
	return err
}

// fromPlain turns an error of pkg/sftp into one of ours.
func fromPlain(err error) error {
	var s *sftp.StatusError
	if errors.As(err, &s) {
		// The server's text cannot be had from it without pkg/sftp's own.
		return errorOf(status{code: code(s.Code), text: "Failure"})
	}
	if errors.Is(err, sftp.ErrSSHFxConnectionLost) {
		return tree.ErrLost
	}
	return err
}

// pathError names what failed on which path.
func pathError(op, path string, err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return &fs.PathError{Op: op, Path: path, Err: err} // whoever tells people can name it their way
}
