package transfer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"transferd/internal/tree"
)

// manyOperands is from when on listing the destination costs less than asking
// for each operand's name there.
const manyOperands = 8

// A landing says where one operand's copy goes.
type landing struct {
	src   Place
	entry tree.Entry // the operand, a typed symlink followed as scp does
	to    tree.Path
	fresh bool // a directory that must be made
	err   error
}

// land decides where every operand lands: scp's rule, made safe to repeat.
//
// A file goes into a directory that exists or was written with "/", else it
// becomes the destination. A directory becomes a name that does not exist and
// goes into one that does; but a destination that is this directory's own
// unfinished copy is continued, not nested into. With NoTargetDir the
// destination is always exactly the copy.
func (c *copier) land(ctx context.Context, srcs []Place) ([]landing, error) {
	target, err := retryValue(ctx, c, c.dst.Label, func() (tree.Entry, error) { return c.sink.Stat(ctx, c.dst.Path) })
	missing := isMissing(err)
	if err != nil && !missing {
		return nil, err
	}
	isDir := err == nil && target.IsDir()
	if err := c.checkTarget(len(srcs), missing, isDir); err != nil {
		return nil, err
	}
	if missing && c.dst.Slash && !c.opt.NoTargetDir && !c.opt.DryRun {
		err := c.retry(ctx, c.dst.Label, func() error { return ignoreExist(c.sink.Mkdir(ctx, c.dst.Path, 0o777)) })
		if err != nil {
			return nil, err
		}
	}
	if isDir && len(srcs) >= manyOperands {
		if c.names, err = c.namesIn(ctx, c.dst.Label, c.sink, c.dst.Path); err != nil {
			return nil, err
		}
	}
	taken := map[tree.Path]string{}
	lands := make([]landing, 0, len(srcs))
	for _, src := range srcs {
		l := c.landOne(ctx, src, isDir || (missing && c.dst.Slash), missing)
		if prev, ok := taken[l.to]; ok && l.err == nil && !l.entry.IsDir() {
			l.err = &UsageError{
				What: fmt.Sprintf("%s: would overwrite the copy of %s", src.Label, prev),
				Hint: "copy them to different names, one by one",
			}
		}
		taken[l.to] = src.Label
		lands = append(lands, l)
	}
	return lands, nil
}

func (c *copier) checkTarget(operands int, missing, isDir bool) error {
	switch {
	case operands > 1 && c.opt.NoTargetDir:
		return &UsageError{What: "-T takes exactly one source"}
	case operands > 1 && !isDir && !(missing && c.dst.Slash):
		err := fmt.Errorf("%s: %w", c.dst.Label, tree.ErrNotDir)
		if missing {
			err = fmt.Errorf("%s: %w", c.dst.Label, fs.ErrNotExist)
		}
		return fmt.Errorf("several sources need a directory to go to: %w", err)
	case c.dst.Slash && !missing && !isDir:
		return fmt.Errorf("%s: %w", c.dst.Label, tree.ErrNotDir)
	}
	return nil
}

// landOne places one operand. into says that the destination is a directory,
// missing that it did not exist before this command.
func (c *copier) landOne(ctx context.Context, src Place, into, missing bool) landing {
	l := landing{src: src, to: c.dst.Path}
	l.entry, l.err = retryValue(ctx, c, src.Label, func() (tree.Entry, error) { return src.Tree.Stat(ctx, src.Path) })
	if l.err != nil {
		return l
	}
	base := src.Path.Base()
	contents := src.Contents || src.Path == tree.Root
	if !l.entry.IsDir() {
		if into && c.opt.NoTargetDir {
			l.err = fmt.Errorf("%s: %w", c.dst.Label, tree.ErrIsDir)
		}
		if into {
			l.to = c.dst.Path.Join(base)
		}
		l.err = errors.Join(l.err, c.sameFile(ctx, l))
		return l
	}
	if !c.opt.Recursive {
		l.err = &UsageError{What: src.Label + " is a directory", Hint: "copy it with -r"}
		return l
	}
	if into && !c.opt.NoTargetDir && !contents && !c.unfinished(ctx, src, c.dst.Path) {
		l.to = c.dst.Path.Join(base)
		l.fresh, l.err = c.needsDir(ctx, l.to)
		if l.fresh && !missing && !c.dst.Slash && c.looksAlike(ctx, src) {
			c.emit(Hint{fmt.Sprintf("%s exists, so the copy becomes %s/%s; with -T it would be %s itself",
				c.dst.Label, strings.TrimRight(c.dst.Label, "/"), base, c.dst.Label)})
		}
	} else {
		l.fresh = missing && !c.dst.Slash
		if !missing && !into {
			l.err = fmt.Errorf("%s: %w", c.dst.Label, tree.ErrNotDir)
		}
	}
	if l.err == nil && c.inside(src, l.to) {
		l.err = &UsageError{What: fmt.Sprintf("cannot copy %s into itself", src.Label)}
	}
	return l
}

// needsDir reports whether a directory must be made at p. A symlink there is
// not followed: nobody typed it.
func (c *copier) needsDir(ctx context.Context, p tree.Path) (bool, error) {
	e, err := retryValue(ctx, c, p.String(), func() (tree.Entry, error) { return c.sink.Lstat(ctx, p) })
	switch {
	case isMissing(err):
		return true, nil
	case err != nil:
		return false, err
	case !e.IsDir():
		return false, fmt.Errorf("%s is there already: %w", p, tree.ErrNotDir)
	}
	return false, nil
}

// unfinished reports whether directory p is a copy of src that was broken off.
func (c *copier) unfinished(ctx context.Context, src Place, p tree.Path) bool {
	marker := markerName(src.origin(c.opt.Machine, src.Path), p)
	_, err := retryValue(ctx, c, src.Label, func() (tree.Entry, error) { return c.sink.Lstat(ctx, p.Join(marker)) })
	return err == nil
}

// looksAlike reports whether the destination already holds names of src, as it
// does when the same copy was made there before.
func (c *copier) looksAlike(ctx context.Context, src Place) bool {
	const enough = 8
	seen := 0
	for e, err := range src.Tree.List(ctx, src.Path) {
		if err != nil || seen == enough {
			return false
		}
		if _, err := c.sink.Lstat(ctx, c.dst.Path.Join(e.Name)); err == nil {
			return true
		}
		seen++
	}
	return false
}

// sameFile refuses to copy a local file over itself.
func (c *copier) sameFile(ctx context.Context, l landing) error {
	if transportOf(l.src.Tree) != "" || transportOf(c.sink) != "" || l.entry.Inode == 0 {
		return nil
	}
	there, err := c.sink.Stat(ctx, l.to)
	if err == nil && there.Inode == l.entry.Inode && there.Device == l.entry.Device {
		return &UsageError{What: fmt.Sprintf("%s and %s are the same file", l.src.Label, c.dst.Label)}
	}
	return nil
}

// inside reports whether p lies in src, on one machine.
func (c *copier) inside(src Place, p tree.Path) bool {
	if src.Host != c.dst.Host {
		return false
	}
	return src.Path == tree.Root || p == src.Path || strings.HasPrefix(p.String(), src.Path.String()+"/")
}

func isMissing(err error) bool { return errors.Is(err, fs.ErrNotExist) }

func ignoreExist(err error) error {
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}
