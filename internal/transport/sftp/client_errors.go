package sftp

import (
	"context"
	"errors"
	"fmt"

	"github.com/pkg/sftp"

	"transferd/internal/tree"
)

// isFailure reports whether the server said no without saying why: version 3
// has no codes for "exists", "not empty" or "disk full".
func isFailure(err error) bool {
	var s *StatusError
	return errors.As(err, &s) && code(s.Code) == codeFailure
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
	return fmt.Errorf("%s %s: %w", op, path, err)
}
