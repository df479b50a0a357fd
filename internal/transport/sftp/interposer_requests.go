package sftp

import (
	"math"

	"transferd/internal/tree"
)

// write answers WRITE: at once and in place, so that the next packet finds it
// done.
func (i *interposer) write(id uint32, c *cursor) error {
	name, off, data := c.bytes(), c.uint64(), c.bytes()
	if c.err != nil {
		return c.err
	}
	h, err := i.file(name)
	if err == nil && (off > math.MaxInt64 || int64(off) > math.MaxInt64-int64(len(data))) {
		err = errBadSize
	}
	if err == nil {
		err = h.write(data, int64(off)) //nolint:gosec // checked
	}
	i.status(id, err)
	return nil
}

// stat answers STAT.
func (i *interposer) stat(id uint32, c *cursor) error {
	return i.describe(id, c, func(p tree.Path) (tree.Entry, error) {
		return i.server.fs.Stat(i.server.ctx, p)
	})
}

// lstat answers LSTAT.
func (i *interposer) lstat(id uint32, c *cursor) error {
	return i.describe(id, c, func(p tree.Path) (tree.Entry, error) {
		return i.server.fs.Lstat(i.server.ctx, p)
	})
}

func (i *interposer) describe(id uint32, c *cursor, stat func(tree.Path) (tree.Entry, error)) error {
	var e tree.Entry
	err := i.withPath(c, func(p tree.Path) (err error) {
		e, err = stat(p)
		return err
	})
	return i.answerAttrs(id, c, e, err)
}

// fstat answers FSTAT about the open file, whatever its name leads to by now.
func (i *interposer) fstat(id uint32, c *cursor) error {
	name := c.bytes()
	if c.err != nil {
		return c.err
	}
	h, err := i.file(name)
	var e tree.Entry
	if err == nil {
		e, err = h.file.Stat(i.server.ctx)
	}
	return i.answerAttrs(id, c, e, err)
}

func (i *interposer) answerAttrs(id uint32, c *cursor, e tree.Entry, err error) error {
	if c.err != nil {
		return c.err
	}
	if err != nil {
		i.status(id, err)
		return nil
	}
	i.server.names.learn(e)
	i.replies.send(func(w *builder) {
		w.begin(typeAttrs)
		w.uint32(id)
		w.attrs(attrsOf(e))
		w.end()
	})
	return nil
}

// fsetstat answers FSETSTAT.
func (i *interposer) fsetstat(id uint32, c *cursor) error {
	name, asked := c.bytes(), c.attrs()
	if c.err != nil {
		return c.err
	}
	h, err := i.file(name)
	var change tree.Attr
	if err == nil {
		change, err = asked.change()
	}
	if err == nil && !change.IsZero() {
		err = h.file.SetAttr(i.server.ctx, change)
	}
	i.status(id, err)
	return nil
}

// mkdir answers MKDIR.
func (i *interposer) mkdir(id uint32, c *cursor) error {
	path := *c
	c.bytes()
	asked := c.attrs()
	if c.err != nil {
		return c.err
	}
	err := i.withPath(&path, func(p tree.Path) error {
		return i.server.fs.Mkdir(i.server.ctx, p, i.server.perm(asked, 0o777))
	})
	i.status(id, err)
	return nil
}

// withPath calls do with the path that comes next in c, everything before it
// settled. A field that is not there is c's error, and do is not called.
func (i *interposer) withPath(c *cursor, do func(tree.Path) error) error {
	text := c.text()
	if c.err != nil {
		return c.err
	}
	p, err := i.server.path(text)
	if err != nil {
		return err
	}
	i.settle(nil)
	return do(p)
}
