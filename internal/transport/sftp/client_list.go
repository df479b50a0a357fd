package sftp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"

	"transferd/internal/tree"
)

// readAhead is how many READDIRs of one directory are on their way at once:
// names are fetched while those before are looked at.
const readAhead = 2

// List implements tree.Source. The names come as the server sends them, a
// hundred at a time with most.
func (c *Client) List(ctx context.Context, p tree.Path) iter.Seq2[tree.Entry, error] {
	return func(yield func(tree.Entry, error) bool) {
		l, err := c.lane(ctx)
		if err == nil {
			err = l.list(ctx, remote(p), func(e tree.Entry) bool { return yield(e, nil) })
		}
		if err != nil {
			yield(tree.Entry{}, pathError("list", c.name(p), err))
		}
	}
}

// list calls yield for every name until it returns false. An error is never
// returned after that.
func (l *lane) list(ctx context.Context, dir string, yield func(tree.Entry) bool) error {
	h, err := l.openHandle(ctx, queryOn(typeOpendir, dir))
	if err != nil {
		return l.orNotDir(ctx, err, dir)
	}
	defer l.post(queryOn(typeClose, h))

	var ahead []*call
	for {
		for len(ahead) < readAhead {
			c := newCall()
			if err := l.send(ctx, queryOn(typeReaddir, h), c); err != nil {
				return err
			}
			ahead = append(ahead, c)
		}
		c := ahead[0]
		ahead = ahead[1:]
		if err := c.wait(ctx); err != nil {
			return err
		}
		batch, err := c.entries()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			batch, err = l.complete(ctx, dir, batch)
		}
		if err != nil {
			return err
		}
		for _, e := range batch {
			if !yield(e) {
				return nil
			}
		}
	}
}

// orNotDir finds out whether a directory could not be opened because it is
// none.
func (l *lane) orNotDir(ctx context.Context, err error, dir string) error {
	if errors.Is(err, tree.ErrLost) || ctx.Err() != nil {
		return err
	}
	a, serr := l.stat(ctx, queryOn(typeStat, dir))
	if serr == nil && kindOf(a.mode) != tree.KindDir && a.flags&attrPerm != 0 {
		return tree.ErrNotDir
	}
	return err
}

// entries decodes a batch of names. Names that are none are refused: the
// server could lead a recursive copy anywhere with them.
func (c *call) entries() ([]tree.Entry, error) {
	r, err := c.as(typeName)
	if err != nil {
		return nil, err
	}
	n := r.uint32()
	if n == 0 {
		return nil, fmt.Errorf("%w: no names in a list of names", errBadPacket)
	}
	// 12 bytes are the least that a name takes.
	batch := make([]tree.Entry, 0, min(int(n), len(r.b)/12+1))
	for ; n > 0 && r.err == nil; n-- {
		name, long, a := r.text(), r.bytes(), r.attrs()
		if r.err != nil || name == "." || name == ".." {
			continue
		}
		if err := tree.CheckName(name); err != nil {
			return nil, fmt.Errorf("%w: %w", errBadPacket, err)
		}
		e := a.entry(name)
		e.Owner, e.Group, e.Nlink = longNames(long, e)
		batch = append(batch, e)
	}
	return batch, r.err
}

// complete adds what a list of names does not tell: where symlinks lead, and
// everything where the server leaves attributes out. All questions are on their
// way at once. What is gone by now is left out.
func (l *lane) complete(ctx context.Context, dir string, batch []tree.Entry) ([]tree.Entry, error) {
	asked := make([]*call, len(batch))
	for i, e := range batch {
		t := typeReadlink
		switch e.Kind {
		case tree.KindSymlink:
		case tree.KindUnknown:
			t = typeLstat
		case tree.KindFile, tree.KindDir, tree.KindFIFO, tree.KindSocket, tree.KindCharDevice, tree.KindBlockDevice:
			continue
		}
		asked[i] = newCall()
		if err := l.send(ctx, queryOn(t, childPath(dir, e.Name)), asked[i]); err != nil {
			return nil, err
		}
	}
	full := batch[:0]
	for i, e := range batch {
		var err error
		if asked[i] != nil {
			e, err = l.completed(ctx, dir, e, asked[i])
		}
		switch {
		case err == nil:
			full = append(full, e)
		case !errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("%s: %w", e.Name, err)
		}
	}
	return full, nil
}

// completed is e with the answer that complete asked for.
func (l *lane) completed(ctx context.Context, dir string, e tree.Entry, c *call) (tree.Entry, error) {
	if err := c.wait(ctx); err != nil {
		return e, err
	}
	var err error
	if e.Kind == tree.KindSymlink {
		e.Link, err = c.name()
		return e, err
	}
	a, err := c.attrs()
	if err != nil {
		return e, err
	}
	e = a.entry(e.Name)
	if e.Kind == tree.KindSymlink {
		e.Link, err = l.readLink(ctx, childPath(dir, e.Name))
	}
	return e, err
}

// holdsNames reports whether dir is a directory with anything in it.
func (l *lane) holdsNames(ctx context.Context, dir string) (bool, error) {
	full := false
	err := l.list(ctx, dir, func(tree.Entry) bool {
		full = true
		return false
	})
	return full, err
}

func childPath(dir, name string) string {
	if dir == "/" {
		return dir + name
	}
	return dir + "/" + name
}
