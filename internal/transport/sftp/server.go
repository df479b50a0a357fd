package sftp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"

	pkgsftp "github.com/pkg/sftp"

	"transferd/internal/tree"
)

// ServerOptions are the settings of a session. The zero value works.
type ServerOptions struct {
	Home        tree.Path // where relative paths start; "" is the root
	ReadOnly    bool      // refuse all that changes anything (sftp-server -R)
	Allow, Deny []string  // names of requests, as RequestNames has them (sftp-server -p, -P); nil Allow: all; Deny wins
	Umask       *uint32   // taken from the permissions of what is made (sftp-server -u); nil: the tree's own alone
	MaxHandles  int       // open files and directories; 0: 256
	Handles     *Handles  // bounds them together with those of other sessions; nil: MaxHandles alone does

	// Homes tells the home of a user for "~user" and home-directory; nil:
	// nobody's but Home.
	Homes func(user string) (tree.Path, error)

	// Gone is closed when the client cannot come back. What it has sent is
	// carried out all the same, up to a copy inside the server, which may have
	// no end: there the session ends. Nil: that is not known.
	Gone <-chan struct{}

	Log *slog.Logger // nil: discarded
}

// defaultMaxHandles is far above what any client holds open at once, and low
// enough that sessions of one account do not use up the process's files.
const defaultMaxHandles = 256

var (
	errBadHandle      = errors.New("invalid handle")
	errTooManyHandles = errors.New("too many open handles")
)

// Serve shows fs to the client at the other end of rw until it hangs up, and
// closes every file that it left open. The error is nil when the client ended
// between two requests. What was received whole has been carried out by then,
// also after an error.
//
// Serve closes rw only to break off, when ctx ends. Closing it otherwise is the
// caller's part.
func Serve(ctx context.Context, rw io.ReadWriteCloser, fs tree.FS, o ServerOptions) error {
	if o.Home == "" {
		o.Home = tree.Root
	}
	if o.MaxHandles <= 0 {
		o.MaxHandles = defaultMaxHandles
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &server{ctx: ctx, fs: fs, o: o}
	i := newInterposer(s, rw)
	s.breakOff = i.breakOff
	stop := context.AfterFunc(ctx, i.breakOff)
	defer stop()

	h := &handlers{server: s, interposer: i}
	rs := pkgsftp.NewRequestServer(i, pkgsftp.Handlers{FileGet: h, FilePut: h, FileCmd: h, FileList: h},
		pkgsftp.WithRSAllocator(),
		pkgsftp.WithRSMaxTxPacket(maxPacket-9), // the type, id and length of DATA are the rest
		pkgsftp.WithStartDirectory("/"+o.Home.String()))
	err := rs.Serve()
	if i.end != nil {
		err = i.end // RequestServer changes it
	}
	if errors.Is(err, io.EOF) {
		err = i.replies.failure()
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return fmt.Errorf("sftp session: %w", err)
	}
	return nil
}

// A server is what a session's requests share, whoever answers them.
type server struct {
	ctx context.Context // of Serve: pkg/sftp has no way to hand one to its handlers
	fs  tree.FS
	o   ServerOptions

	breakOff func() // ends the session

	names names
}

// errInternal is all that a client hears of a panic.
var errInternal = errors.New("internal error")

// rescue is deferred where foreign goroutines call us, pkg/sftp's, in which a
// panic would end the process: it ends this session and no other.
func (s *server) rescue(err *error) {
	p := recover()
	if p == nil {
		return
	}
	s.o.Log.ErrorContext(s.ctx, "panic", "cause", fmt.Sprint(p), "stack", string(debug.Stack()))
	s.breakOff()
	*err = refuse(errInternal)
}

// note tells the operator what the client is told only in general.
func (s *server) note(err error) {
	if err != nil && s.o.Log != nil {
		s.o.Log.DebugContext(s.ctx, "sftp request refused", "err", err)
	}
}

// perm returns the permissions of something new for which the client asked
// mode, or did not ask.
func (s *server) perm(asked attrs, otherwise tree.Perm) tree.Perm {
	perm := otherwise
	if asked.flags&attrPerm != 0 {
		perm = tree.Perm(asked.mode) & tree.PermMask
	}
	if s.o.Umask != nil {
		perm &^= tree.Perm(*s.o.Umask) & 0o777
	}
	return perm
}

// setAttr changes what p leads to, its last symlink followed, as OpenSSH's
// SETSTAT does. tree.Names never follows.
func (s *server) setAttr(p tree.Path, change tree.Attr) error {
	if change.IsZero() {
		_, err := s.fs.Stat(s.ctx, p)
		return err
	}
	e, err := s.fs.Lstat(s.ctx, p)
	switch {
	case errors.Is(err, errPermission): // may write, may not look: then p itself
	case err != nil:
		return err
	case e.Kind == tree.KindSymlink:
		if _, err := s.fs.Stat(s.ctx, p); err != nil {
			return err // dangling, or leading out of the tree
		}
		if p, err = s.resolve("/" + p.String()); err != nil {
			return err
		}
	}
	return s.fs.SetAttr(s.ctx, p, change)
}

// remove removes p if it is a directory, or if it is none. tree.Names.Remove
// takes both, REMOVE and RMDIR one each.
func (s *server) remove(p tree.Path, dir bool) error {
	e, err := s.fs.Lstat(s.ctx, p)
	switch {
	case errors.Is(err, errPermission): // may delete, may not look
	case err != nil:
		return err
	case dir && !e.IsDir():
		return fmt.Errorf("%s: %w", p, tree.ErrNotDir)
	case !dir && e.IsDir():
		return fmt.Errorf("%s: %w", p, tree.ErrIsDir)
	}
	return s.fs.Remove(s.ctx, p)
}
