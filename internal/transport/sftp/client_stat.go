package sftp

import (
	"context"
	"errors"
	"fmt"

	"github.com/pkg/sftp"

	"transferd/internal/tree"
)

// Home returns the directory in which the server starts.
func (c *Client) Home(ctx context.Context) (tree.Path, error) {
	c.mu.Lock()
	home := c.home
	c.mu.Unlock()
	if home != "" {
		return home, nil
	}
	home, err := c.RealPath(ctx, ".")
	if err != nil {
		return "", err
	}
	c.mu.Lock()
	c.home = home
	c.mu.Unlock()
	return home, nil
}

// RealPath returns what the server makes of p: absolute, relative to the home,
// or "~" and "~user", which only some servers can tell (errors.ErrUnsupported).
// Symlinks in it are followed where they lead anywhere.
func (c *Client) RealPath(ctx context.Context, p string) (tree.Path, error) {
	l, err := c.lane(ctx)
	if err != nil {
		return "", err
	}
	text, err := l.realPath(ctx, p)
	if err != nil {
		return "", pathError("resolve", p, err)
	}
	return tree.ParsePath(text)
}

func (l *lane) realPath(ctx context.Context, p string) (string, error) {
	switch {
	case p == "~":
		p = "."
	case p == "":
		p = "."
	case p[0] == '~':
		if !l.has(extExpandPath) {
			return "", fmt.Errorf("%w: this server cannot expand ~ to the home of another user", errors.ErrUnsupported)
		}
		c, err := l.do(ctx, extended(extExpandPath, p))
		if err != nil {
			return "", err
		}
		return c.name()
	}
	return filled(ask(ctx, l, func(c *sftp.Client) (string, error) { return c.RealPath(p) }))
}

// filled refuses an empty name, which pkg/sftp makes of an answer that says
// only that all is well.
func filled(s string, err error) (string, error) {
	if err == nil && s == "" {
		err = fmt.Errorf("%w: OK where a name belongs", errBadPacket)
	}
	return s, err
}

// name returns the only name that the answer holds.
func (c *call) name() (string, error) {
	r, err := c.as(typeName)
	if err != nil {
		return "", err
	}
	if n := r.uint32(); n != 1 {
		return "", fmt.Errorf("%w: %d names where one belongs", errBadPacket, n)
	}
	s := r.text()
	return s, r.err
}

// Stat implements tree.Source.
func (c *Client) Stat(ctx context.Context, p tree.Path) (tree.Entry, error) {
	return on(ctx, c, "stat", p, func(l *lane) (tree.Entry, error) {
		a, err := l.stat(ctx, queryOn(typeStat, remote(p)))
		return a.entry(p.Base()), err
	})
}

// Lstat implements tree.Source.
func (c *Client) Lstat(ctx context.Context, p tree.Path) (tree.Entry, error) {
	return on(ctx, c, "stat", p, func(l *lane) (tree.Entry, error) {
		a, err := l.stat(ctx, queryOn(typeLstat, remote(p)))
		if err != nil {
			return tree.Entry{}, err
		}
		e := a.entry(p.Base())
		if e.Kind == tree.KindSymlink {
			e.Link, err = l.readLink(ctx, remote(p))
		}
		return e, err
	})
}

// stat sends a request that attributes answer.
func (l *lane) stat(ctx context.Context, r query) (attrs, error) {
	c, err := l.do(ctx, r)
	if err != nil {
		return attrs{}, err
	}
	return c.attrs()
}

func (l *lane) readLink(ctx context.Context, path string) (string, error) {
	return filled(ask(ctx, l, func(c *sftp.Client) (string, error) { return c.ReadLink(path) }))
}

// StatFS implements tree.Spacer.
func (c *Client) StatFS(ctx context.Context, p tree.Path) (tree.Space, error) {
	return on(ctx, c, "statfs", p, func(l *lane) (tree.Space, error) { return l.statFS(ctx, remote(p)) })
}

func (l *lane) statFS(ctx context.Context, path string) (tree.Space, error) {
	if !l.has(extStatVFS) {
		return tree.Space{}, fmt.Errorf("%w: this server cannot tell how full it is", errors.ErrUnsupported)
	}
	c, err := l.do(ctx, extended(extStatVFS, path))
	if err != nil {
		return tree.Space{}, err
	}
	r, err := c.as(typeExtendedReply)
	if err != nil {
		return tree.Space{}, err
	}
	var v [11]uint64 // bsize, frsize, blocks, bfree, bavail, files, ffree, favail, fsid, flag, namemax
	for i := range v {
		v[i] = r.uint64()
	}
	unit, flags := v[1], v[9]
	return tree.Space{
		BlockSize: unit, Total: unit * v[2], Free: unit * v[3], Available: unit * v[4],
		Files: v[5], FilesFree: v[6], FilesAvail: v[7],
		FilesystemID: v[8], ReadOnly: flags&statReadOnly != 0, NoSuid: flags&statNoSuid != 0, MaxName: v[10],
	}, r.err
}

// Flags of statvfs@openssh.com.
const (
	statReadOnly = 1
	statNoSuid   = 2
)
