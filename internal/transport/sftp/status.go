package sftp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"syscall"

	"transferd/internal/tree"
)

// A code is the number of a STATUS: draft-02, section 7.
type code uint32

const (
	codeOK               code = 0
	codeEOF              code = 1
	codeNoSuchFile       code = 2
	codePermissionDenied code = 3
	codeFailure          code = 4
	codeBadMessage       code = 5
	codeNoConnection     code = 6
	codeConnectionLost   code = 7
	codeUnsupported      code = 8
)

// A status is what STATUS says. Its text is one of ours: what an error of the
// tree says may hold paths of the host.
type status struct {
	code code
	text string
}

// statusOK is the only STATUS that is no failure.
var statusOK = status{codeOK, "Success"} //nolint:gochecknoglobals // a constant

// statuses is the one place that maps errors to STATUS and back. The first
// line whose error matches counts. Codes and most texts are those of OpenSSH's
// sftp-server.
var statuses = []struct { //nolint:gochecknoglobals // a table
	err error
	status
}{
	{io.EOF, status{codeEOF, "End of file"}},
	{fs.ErrNotExist, status{codeNoSuchFile, "No such file"}},
	{errReadOnly, status{codePermissionDenied, "Read-only file system"}},
	{syscall.EROFS, status{codePermissionDenied, "Read-only file system"}},
	{fs.ErrPermission, status{codePermissionDenied, "Permission denied"}},
	{tree.ErrNotEmpty, status{codeFailure, "Directory not empty"}},
	{syscall.ENOTEMPTY, status{codeFailure, "Directory not empty"}}, // which is fs.ErrExist too
	{fs.ErrExist, status{codeFailure, "File exists"}},
	{errors.ErrUnsupported, status{codeUnsupported, "Operation unsupported"}},
	{tree.ErrNoSpace, status{codeFailure, "No space left on device"}},
	{syscall.ENOSPC, status{codeFailure, "No space left on device"}},
	{tree.ErrQuota, status{codeFailure, "Quota exceeded"}},
	{syscall.EDQUOT, status{codeFailure, "Quota exceeded"}},
	{tree.ErrEscape, status{codePermissionDenied, "Path leads out of the tree"}},
	{tree.ErrNotDir, status{codeNoSuchFile, "Not a directory"}},
	{syscall.ENOTDIR, status{codeNoSuchFile, "Not a directory"}},
	{tree.ErrIsDir, status{codeFailure, "Is a directory"}},
	{syscall.EISDIR, status{codeFailure, "Is a directory"}},
	{tree.ErrNotRegular, status{codeFailure, "Not a regular file"}},
	{tree.ErrBusy, status{codeFailure, "File is busy"}},
	{tree.ErrBadPath, status{codeBadMessage, "Bad path"}},
	{errBadSize, status{codeBadMessage, "Size out of range"}},
	{errBadPacket, status{codeBadMessage, "Bad message"}},
	{syscall.EINVAL, status{codeBadMessage, "Invalid argument"}},
	{syscall.ENAMETOOLONG, status{codeBadMessage, "File name too long"}},
	{errBadHandle, status{codeFailure, "Invalid handle"}},
	{errTooManyHandles, status{codeFailure, "Too many open handles"}},
	{errSameFile, status{codeFailure, "Copy of a file onto itself"}},
	{errTooManyLinks, status{codeNoSuchFile, "Too many levels of symbolic links"}},
	{context.Canceled, status{codeConnectionLost, "Connection lost"}},
	{tree.ErrLost, status{codeConnectionLost, "Connection lost"}},
	{tree.ErrClosed, status{codeFailure, "Closed"}},
}

// errReadOnly is an fs.ErrPermission that no account can help.
var errReadOnly = fmt.Errorf("read-only file system: %w", fs.ErrPermission)

// statusOf returns the STATUS that tells of err.
func statusOf(err error) status {
	if err == nil {
		return statusOK
	}
	for _, s := range statuses {
		if errors.Is(err, s.err) {
			return s.status
		}
	}
	var errno syscall.Errno // its text is the system's and names no path
	if errors.As(err, &errno) {
		return status{codeFailure, errno.Error()}
	}
	return status{codeFailure, "Failure"}
}

// A StatusError is a refusal by the other end that no error of package tree or
// fs says better.
type StatusError struct {
	Code uint32 // of draft-02, section 7
	Text string // as the server wrote it
}

func (e *StatusError) Error() string {
	if e.Text == "" {
		return "server refused without a reason"
	}
	return "server: " + e.Text
}

// errorOf returns what s stands for, nil for success. A text of our own tells
// more than the code, which has one number for most failures; foreign servers
// send texts of their own, and then the code decides.
func errorOf(s status) error {
	if s.code == codeOK {
		return nil
	}
	for _, known := range statuses {
		if known.status == s {
			return known.err
		}
	}
	switch s.code {
	case codeEOF:
		return io.EOF
	case codeNoSuchFile:
		return fs.ErrNotExist
	case codePermissionDenied:
		return fs.ErrPermission
	case codeUnsupported:
		return errors.ErrUnsupported
	case codeNoConnection, codeConnectionLost:
		return tree.ErrLost
	case codeOK, codeFailure, codeBadMessage:
	}
	return &StatusError{Code: uint32(s.code), Text: s.text}
}

// status appends a STATUS that answers request id.
func (w *builder) status(id uint32, s status) {
	w.begin(typeStatus)
	w.uint32(id)
	w.uint32(uint32(s.code))
	w.text(s.text)
	w.text("") // language
	w.end()
}

// status decodes the fields of a STATUS behind its id. Old servers leave the
// text out.
func (c *cursor) status() status {
	s := status{code: code(c.uint32())}
	if len(c.b) > 0 {
		s.text = c.text()
	}
	return s
}
