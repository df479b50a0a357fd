package sftp

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/pkg/sftp"

	"transferd/internal/tree"
)

// act runs fn with a lane, as on does, for operations without an answer.
func (c *Client) act(ctx context.Context, op string, p tree.Path, fn func(*lane) error) error {
	_, err := on(ctx, c, op, p, func(l *lane) (struct{}, error) {
		return struct{}{}, l.orDisk(ctx, fn(l), remote(p.Parent()), false)
	})
	return err
}

// Mkdir implements tree.Names.
func (c *Client) Mkdir(ctx context.Context, p tree.Path, perm tree.Perm) error {
	return c.act(ctx, "mkdir", p, func(l *lane) error {
		// pkg/sftp's Mkdir has no mode: the directory would be open to the world
		// for a moment.
		mode := uint32(perm & tree.PermMask)
		err := l.status(ctx, queryOn(typeMkdir, remote(p)).attrs(attrs{flags: attrPerm, mode: mode}))
		return l.orExists(ctx, err, remote(p))
	})
}

// Symlink implements tree.Names.
func (c *Client) Symlink(ctx context.Context, target string, p tree.Path) error {
	return c.act(ctx, "symlink", p, func(l *lane) error {
		// OpenSSH has the two paths the wrong way round, and with it the world;
		// pkg/sftp does the same.
		err := tell(ctx, l, func(c *sftp.Client) error { return c.Symlink(target, remote(p)) })
		return l.orExists(ctx, err, remote(p))
	})
}

// Link implements tree.Linker.
func (c *Client) Link(ctx context.Context, from, to tree.Path) error {
	return c.act(ctx, "link", to, func(l *lane) error {
		if !l.has(extHardlink) {
			return fmt.Errorf("%w: this server makes no hard links", errors.ErrUnsupported)
		}
		err := tell(ctx, l, func(c *sftp.Client) error { return c.Link(remote(from), remote(to)) })
		return l.orExists(ctx, err, remote(to))
	})
}

// Remove implements tree.Names.
func (c *Client) Remove(ctx context.Context, p tree.Path) error {
	return c.act(ctx, "remove", p, func(l *lane) error { return l.remove(ctx, remote(p)) })
}

// remove does what pkg/sftp's Remove does, without its panic when a server
// answers its last question with OK. REMOVE goes first, which is one round trip
// for all but directories; servers refuse those with different codes.
func (l *lane) remove(ctx context.Context, path string) error {
	err := l.status(ctx, queryOn(typeRemove, path))
	if err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, tree.ErrLost) || ctx.Err() != nil {
		return err
	}
	a, serr := l.stat(ctx, queryOn(typeLstat, path))
	if serr != nil || kindOf(a.mode) != tree.KindDir {
		return err
	}
	err = l.status(ctx, queryOn(typeRmdir, path))
	if !isFailure(err) {
		return err
	}
	if full, _ := l.holdsNames(ctx, path); full { // only asked for a better error
		return tree.ErrNotEmpty
	}
	return err
}

// Rename implements tree.Names.
func (c *Client) Rename(ctx context.Context, from, to tree.Path, how tree.RenameMode) error {
	return c.act(ctx, "rename", from, func(l *lane) error { return l.rename(ctx, remote(from), remote(to), how) })
}

// rename moves from to to in one step where the server can.
func (l *lane) rename(ctx context.Context, from, to string, how tree.RenameMode) error {
	if how == tree.RenameReplace && l.has(extPosixRename) {
		return l.status(ctx, extended(extPosixRename, from, to))
	}
	if !l.has(extPosixRename) {
		// RENAME of version 3 never replaces, and a server that tells the two
		// kinds apart can be trusted to know that. Others are looked after.
		there, err := l.exists(ctx, to)
		switch {
		case err != nil:
			return err
		case there && how == tree.RenameNoReplace:
			return fs.ErrExist
		case there:
			return l.replaceBySteps(ctx, from, to)
		}
	}
	err := tell(ctx, l, func(c *sftp.Client) error { return c.Rename(from, to) })
	return l.orExists(ctx, err, to)
}

// replaceBySteps puts from in place of to on a server that has no
// posix-rename: the old one is moved aside, and moved back if the new one
// cannot take its name.
func (l *lane) replaceBySteps(ctx context.Context, from, to string) error {
	aside := asidePath(to)
	move := func(ctx context.Context, a, b string) error {
		return tell(ctx, l, func(c *sftp.Client) error { return c.Rename(a, b) })
	}
	if err := move(ctx, to, aside); err != nil {
		return fmt.Errorf("move the old file aside: %w", err)
	}
	// From here on ctx must not leave the name empty.
	ctx = context.WithoutCancel(ctx)
	if err := move(ctx, from, to); err != nil {
		if back := move(ctx, aside, to); back != nil {
			return fmt.Errorf("%w; the old file is now %s: %w", err, aside, back)
		}
		return err
	}
	if err := l.status(ctx, queryOn(typeRemove, aside)); err != nil {
		return fmt.Errorf("remove the old file %s: %w", aside, err)
	}
	return nil
}

// asidePath is where replaceBySteps keeps the old file, a name that listings
// leave out.
func asidePath(to string) string {
	p, err := tree.ParsePath(to)
	if err != nil {
		return to // not reached: to was a Path
	}
	return remote(p.Parent().Join(tree.PartialName("replaced", p.Base()) + partSuffix))
}

// exists reports whether path is there, as a symlink or otherwise.
func (l *lane) exists(ctx context.Context, path string) (bool, error) {
	_, err := l.stat(ctx, queryOn(typeLstat, path))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// orExists makes fs.ErrExist of a refusal without a reason if path is there:
// version 3 has no code for it.
func (l *lane) orExists(ctx context.Context, err error, path string) error {
	if !isFailure(err) {
		return err
	}
	if there, _ := l.exists(ctx, path); there { // only asked for a better error
		return fs.ErrExist
	}
	return err
}

// SetAttr implements tree.Names.
func (c *Client) SetAttr(ctx context.Context, p tree.Path, attr tree.Attr) error {
	if attr.IsZero() {
		return nil
	}
	return c.act(ctx, "set attributes of", p, func(l *lane) error { return l.setAttr(ctx, remote(p), attr) })
}

// setAttr changes a path itself. SETSTAT follows symlinks, so a server without
// lsetstat is asked for the kind first.
func (l *lane) setAttr(ctx context.Context, path string, attr tree.Attr) error {
	set := func(a attrs) query { return queryOn(typeSetstat, path).attrs(a) }
	timesNeedLook := (attr.Mtime == nil) != (attr.Atime == nil) // version 3 sets both or none
	if l.has(extLsetstat) && !timesNeedLook && attr.Size == nil {
		set = func(a attrs) query { return extended(extLsetstat, path).attrs(a) }
		return l.sendAttrs(ctx, attr, set)
	}
	now, err := l.stat(ctx, queryOn(typeLstat, path))
	if err != nil {
		return err
	}
	link := kindOf(now.mode) == tree.KindSymlink
	if link && !l.has(extLsetstat) {
		return fmt.Errorf("%w: this server cannot change a symlink", errors.ErrUnsupported)
	}
	if link {
		set = func(a attrs) query { return extended(extLsetstat, path).attrs(a) }
	}
	return l.sendAttrs(ctx, fillTimes(attr, now), set)
}

// fillTimes gives attr the time that it leaves alone, from now, if it sets the
// other.
func fillTimes(attr tree.Attr, now attrs) tree.Attr {
	atime, mtime := timeOf(now.atime), timeOf(now.mtime)
	if now.flags&attrTimes == 0 {
		atime, mtime = time.Now(), time.Now()
	}
	if attr.Mtime != nil && attr.Atime == nil {
		attr.Atime = &atime
	}
	if attr.Atime != nil && attr.Mtime == nil {
		attr.Mtime = &mtime
	}
	return attr
}

// sendAttrs changes what attr says. A new owner takes the setuid and setgid bits
// away, so it goes first, in a request of its own.
func (l *lane) sendAttrs(ctx context.Context, attr tree.Attr, set func(attrs) query) error {
	for _, step := range attrSteps(attr) {
		if err := l.status(ctx, set(step)); err != nil {
			return err
		}
	}
	return nil
}

func attrSteps(attr tree.Attr) []attrs {
	var steps []attrs
	if attr.Owner != nil {
		steps = append(steps, attrsFor(tree.Attr{Owner: attr.Owner}))
		attr.Owner = nil
	}
	if !attr.IsZero() {
		steps = append(steps, attrsFor(attr))
	}
	return steps
}
