package transfer

import (
	"context"
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
	there *tree.Entry // of a directory: what has the name already, nil if it is to be made
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
	isDir := !missing && target.IsDir()
	if err := c.checkTarget(len(srcs), missing, isDir); err != nil {
		return nil, err
	}
	if missing && c.opt.DryRun {
		// Nothing will be made, so nothing else would notice.
		around := c.dst.Path.Parent()
		if _, err := retryValue(ctx, c, c.dst.Label, func() (tree.Entry, error) { return c.sink.Stat(ctx, around) }); err != nil {
			return nil, err
		}
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
	d := destination{into: isDir || (missing && c.dst.Slash), missing: missing}
	if err == nil {
		d.entry = &target
	} else if d.into && !c.opt.NoTargetDir && !c.opt.DryRun {
		// A directory that was just made.
		d.entry = &tree.Entry{Kind: tree.KindDir, Perm: 0o777}
	}
	taken := map[tree.Path]string{}
	lands := make([]landing, 0, len(srcs))
	for _, src := range srcs {
		l := c.landOne(ctx, src, d)
		if prev, ok := taken[l.to]; ok && l.err == nil {
			l.err = &UsageError{
				What: fmt.Sprintf("%s: would overwrite the copy of %s", src.Label, prev),
				Hint: "copy them to different names, or one after the other",
			}
		}
		if l.err == nil {
			taken[l.to] = src.Label
		}
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
		return fmt.Errorf("several sources need a directory to go to, which is made if its name has a / at the end: %w", err)
	case c.dst.Slash && !missing && !isDir:
		return fmt.Errorf("%s: %w", c.dst.Label, tree.ErrNotDir)
	}
	return nil
}

// A destination is what the operands of a command land in or at.
type destination struct {
	into    bool        // it is a directory, or will be
	missing bool        // it did not exist before this command
	entry   *tree.Entry // nil: it does not exist now
}

// landOne places one operand.
func (c *copier) landOne(ctx context.Context, src Place, d destination) landing {
	l := landing{src: src, to: c.dst.Path}
	l.entry, l.err = retryValue(ctx, c, src.Label, func() (tree.Entry, error) { return src.Tree.Stat(ctx, src.Path) })
	switch {
	case l.err != nil:
	case l.entry.IsDir():
		l.err = c.landDir(ctx, &l, d)
	case d.into && c.opt.NoTargetDir:
		l.err = fmt.Errorf("%s: %w", c.dst.Label, tree.ErrIsDir)
	default:
		if d.into {
			l.to = c.dst.Path.Join(src.Path.Base())
		}
		l.err = c.sameFile(ctx, l)
	}
	return l
}

// landDir places a directory.
func (c *copier) landDir(ctx context.Context, l *landing, d destination) error {
	if !c.opt.Recursive {
		return &UsageError{What: l.src.Label + " is a directory", Hint: "copy it with -r"}
	}
	l.there = d.entry
	nest := d.into && !c.opt.NoTargetDir && !l.src.Contents && l.src.Path != tree.Root
	if nest {
		unfinished, err := c.isUnfinished(ctx, l.src.Label, l.src.origin(c.opt.Machine, l.src.Path), c.dst.Path)
		if err != nil {
			return err
		}
		nest = !unfinished
	}
	switch {
	case nest:
		base := l.src.Path.Base()
		l.to = c.dst.Path.Join(base)
		var err error
		if l.there, err = c.directoryAt(ctx, l.to); err != nil {
			return err
		}
		if l.there == nil && !d.missing && !c.dst.Slash && c.looksAlike(ctx, l.src) {
			c.emit(Hint{fmt.Sprintf("%s exists, so the copy becomes %s/%s; with -T it would be %s itself",
				c.dst.Label, strings.TrimRight(c.dst.Label, "/"), base, c.dst.Label)})
		}
	case !d.missing && !d.into:
		return fmt.Errorf("%s: %w", c.dst.Label, tree.ErrNotDir)
	}
	return c.notInside(ctx, l)
}

// directoryAt describes directory p of the destination, nil if there is none.
// A symlink there is not followed: nobody typed it.
func (c *copier) directoryAt(ctx context.Context, p tree.Path) (*tree.Entry, error) {
	e, err := retryValue(ctx, c, p.String(), func() (tree.Entry, error) { return c.sink.Lstat(ctx, p) })
	switch {
	case isMissing(err):
		return nil, nil
	case err != nil:
		return nil, err
	case !e.IsDir():
		return nil, fmt.Errorf("%s is there already: %w", p, tree.ErrNotDir)
	}
	return &e, nil
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
	if !c.isLocal(l.src) || l.entry.Inode == 0 {
		return nil
	}
	there, err := c.sink.Stat(ctx, l.to)
	if err == nil && there.Inode == l.entry.Inode && there.Device == l.entry.Device {
		return &UsageError{What: fmt.Sprintf("%s and %s are the same file", l.src.Label, c.dst.Label)}
	}
	return nil
}

// notInside refuses to copy a directory into itself, as far as the names tell;
// what they hide the walk notices.
func (c *copier) notInside(ctx context.Context, l *landing) error {
	into := &UsageError{What: fmt.Sprintf("cannot copy %s into itself", l.src.Label)}
	if l.src.Host == c.dst.Host {
		if l.src.Path == tree.Root || l.to == l.src.Path || strings.HasPrefix(l.to.String(), l.src.Path.String()+"/") {
			return into
		}
	}
	if !c.isLocal(l.src) || l.entry.Inode == 0 {
		return nil
	}
	for p := l.to; ; p = p.Parent() {
		if e, err := c.sink.Stat(ctx, p); err == nil && e.Inode == l.entry.Inode && e.Device == l.entry.Device {
			return into
		}
		if p == tree.Root {
			return nil
		}
	}
}

// isLocal reports whether both ends of a copy are on this machine's disks.
func (c *copier) isLocal(src Place) bool {
	return transportOf(src.Tree) == "" && transportOf(c.sink) == ""
}
