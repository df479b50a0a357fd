package sftp

import (
	"context"
	"errors"
	"io"
	"log/slog"

	"transferd/internal/tree"
)

// ServerOptions are the settings of a session. The zero value works.
type ServerOptions struct {
	Home        tree.Path // where relative paths start; "" is the root
	ReadOnly    bool      // refuse all that changes anything (sftp-server -R)
	Allow, Deny []string  // names of requests, as RequestNames has them (sftp-server -p, -P); Deny wins
	Umask       *uint32   // taken from the permissions of what is made (sftp-server -u); nil: the tree's own alone
	MaxHandles  int       // open files and directories; 0: 256

	// Homes tells the home of a user for "~user"; nil: nobody's but Home.
	Homes func(user string) (tree.Path, error)

	Log *slog.Logger // nil: discarded
}

var (
	errBadHandle      = errors.New("invalid handle")
	errTooManyHandles = errors.New("too many open handles")
)

// Serve shows fs to the client at the other end of rw until it hangs up, and
// closes every file that it left open. The error is nil when the client ended
// between two requests. Serve closes rw only to break off: when ctx ends or
// the client can no longer be answered. Closing it after that, or at all, is
// the caller's part.
func Serve(ctx context.Context, rw io.ReadWriteCloser, fs tree.FS, o ServerOptions) error {
	return errors.ErrUnsupported
}
