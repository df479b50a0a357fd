// Package session is one login's rights around a tree: every operation is
// looked up in one table of permissions before the tree beneath sees it. It
// opens nothing itself and never widens what the tree beneath confines.
package session

import (
	"context"
	"fmt"

	"transferd/internal/tree"
)

// A Login is who a session belongs to.
type Login struct {
	User           string
	Permissions    Permissions
	KeyFingerprint string // SHA256 of the key that logged in; "" where no key did
	Remote         string // address of the client

	// Room is asked before an upload of size bytes (-1: not known yet) begins,
	// whatever it replaces, and refuses it with an error that wraps
	// tree.ErrQuota. Nil: there is always room.
	Room func(ctx context.Context, size int64) error
}

// room asks whether an upload to p may begin.
func (l Login) room(ctx context.Context, p tree.Path, size int64) error {
	if l.Room == nil {
		return nil
	}
	if err := l.Room(ctx, size); err != nil {
		return fmt.Errorf("upload %s: %w", p, err)
	}
	return nil
}

// FS is the tree that a session is put around.
type FS = tree.FS

// A Session is a tree in which its login's permissions hold. What is not
// permitted fails with fs.ErrPermission and has changed nothing. It is safe for
// concurrent use if the tree beneath is.
//
// A login with Write and without Delete can add and continue, and can take
// nothing away: it uploads new names, resumes them, renames what it made to a
// name that is free; but it neither replaces nor truncates a file that holds
// something. Opening with OpenTruncate works for it where there is nothing to
// truncate. Bytes inside a file can be written over, or no client could
// resume.
type Session struct {
	guard
	fs FS
}

var (
	_ tree.FS      = (*Session)(nil)
	_ tree.Sink    = (*Session)(nil)
	_ tree.Suber   = (*Session)(nil)
	_ tree.Linker  = (*Session)(nil)
	_ tree.Spacer  = (*Session)(nil)
	_ tree.Summer  = (*Session)(nil)
	_ tree.Putter  = (*Session)(nil)
	_ tree.Getter  = (*Session)(nil)
	_ tree.Xattrer = (*Session)(nil)
)

// New returns fs as l may use it. The session does not close fs.
func New(fs FS, l Login) *Session { return &Session{guard{fs, l}, fs} }

// Login returns whose session s is.
func (s *Session) Login() Login { return s.login }
