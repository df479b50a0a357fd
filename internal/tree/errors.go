package tree

import "errors"

// Errors that callers branch on. Everything else is told by fs.ErrNotExist,
// fs.ErrExist, fs.ErrPermission and errors.ErrUnsupported.
var (
	// ErrNotRegular: the name is a directory, device, FIFO or socket where only
	// a regular file will do.
	ErrNotRegular = errors.New("not a regular file")

	// ErrNotDir: the name is no directory where only one will do.
	ErrNotDir = errors.New("not a directory")

	// ErrIsDir: the name is a directory where none will do.
	ErrIsDir = errors.New("is a directory")

	// ErrNotEmpty: a directory that still holds names was to be removed.
	ErrNotEmpty = errors.New("directory not empty")

	// ErrEscape: the path leads out of the tree.
	ErrEscape = errors.New("path leads out of the tree")

	// ErrNoSpace: the disk that holds the target is full; what arrived is kept.
	ErrNoSpace = errors.New("no space left on device")

	// ErrQuota: the account's quota is used up; what arrived is kept.
	ErrQuota = errors.New("quota exceeded")

	// ErrLost: the connection to the tree broke. What arrived is kept, and the
	// same operation may succeed on a new connection.
	ErrLost = errors.New("connection lost")

	// ErrTakenOver: another run of the same upload has ended this one.
	ErrTakenOver = errors.New("taken over by another run of the same copy")

	// ErrBusy: another process holds the journal of this upload.
	ErrBusy = errors.New("another process is writing this file")

	// ErrSourceChanged: the source is no longer what it was when its copy began.
	ErrSourceChanged = errors.New("source changed during the copy")

	// ErrIntegrity: bytes are not what their digest says.
	ErrIntegrity = errors.New("digest does not match")

	// ErrClosed: the tree or file has been closed.
	ErrClosed = errors.New("closed")
)
