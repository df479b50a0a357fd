package native

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"transferd/internal/tree"
	"transferd/protocol"
)

func (op *serverOp) stat(m *protocol.Stat) (protocol.Message, error) {
	in, err := op.in()
	if err != nil {
		return nil, err
	}
	p, follow := tree.Path(m.Path), m.Flags&protocol.StatFollow != 0
	var (
		e      tree.Entry
		xattrs []tree.Xattr
	)
	if follow {
		e, err = in.Stat(op.ctx, p)
	} else {
		e, err = in.Lstat(op.ctx, p)
	}
	if err != nil {
		return nil, err
	}
	if m.Flags&protocol.StatXattrs != 0 {
		if xattrs, err = op.xattrs(in, p, follow); err != nil {
			return nil, err
		}
	}
	return op.found(e, xattrs)
}

// found is FOUND, if the client takes as much.
func (op *serverOp) found(e tree.Entry, xattrs []tree.Xattr) (protocol.Message, error) {
	m := &protocol.Found{Entry: entryToWire(e, xattrs)}
	if entrySize(&m.Entry) > op.on.session.maxData {
		return nil, refuse(protocol.CodeTooLarge, "the attributes are too large for a message")
	}
	return m, nil
}

// xattrs returns the extended attributes of p. They are those of the name
// itself, which is what was asked for unless a symlink was to be followed.
func (op *serverOp) xattrs(in part, p tree.Path, follow bool) ([]tree.Xattr, error) {
	x, ok := in.(tree.Xattrer)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	if follow {
		e, err := in.Lstat(op.ctx, p)
		if err != nil {
			return nil, err
		}
		if e.Kind == tree.KindSymlink {
			return nil, fmt.Errorf("attributes of what a symlink leads to: %w", errors.ErrUnsupported)
		}
	}
	return x.Xattrs(op.ctx, p)
}

// entrySize is about how many bytes e takes in a message, and never fewer.
func entrySize(e *protocol.Entry) int {
	const fixed = 128 // all numbers and lengths
	n := fixed + len(e.Owner) + len(e.Group) + len(e.Link)
	for _, x := range e.Xattrs {
		n += 6 + len(x.Name) + len(x.Value)
	}
	return n
}

func (op *serverOp) resolve(m *protocol.Resolve) (protocol.Message, error) {
	guest := &op.on.session.guest
	resolve := guest.Resolve
	if resolve == nil {
		resolve = func(_ context.Context, text string) (tree.Path, error) { return resolveBelow(guest.Home, text) }
	}
	p, err := resolve(op.ctx, m.Text)
	return &protocol.Resolved{Path: p.String()}, err
}

// resolveBelow makes a path of a text where nobody else can: absolute, below
// home, or home itself.
func resolveBelow(home tree.Path, text string) (tree.Path, error) {
	if home == "" {
		home = tree.Root
	}
	if rest, tilde := strings.CutPrefix(text, "~"); tilde {
		if rest != "" && rest[0] != '/' {
			return "", fmt.Errorf("home of another user: %w", fs.ErrNotExist)
		}
		text = strings.TrimLeft(rest, "/")
	}
	if strings.HasPrefix(text, "/") {
		return tree.ParsePath(text)
	}
	return tree.ParsePath(home.String() + "/" + text)
}

func (op *serverOp) measure(m *protocol.Measure) (protocol.Message, error) {
	in, err := op.in()
	if err != nil {
		return nil, err
	}
	spacer, ok := in.(tree.Spacer)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	space, err := spacer.StatFS(op.ctx, tree.Path(m.Path))
	return spaceToWire(space), err
}

func (op *serverOp) sum(m *protocol.Sum) (protocol.Message, error) {
	in, err := op.in()
	if err != nil {
		return nil, err
	}
	summer, ok := in.(tree.Summer)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	digest, err := summer.Sum(op.ctx, tree.Path(m.Path))
	return &protocol.Summed{Digest: digest}, err
}

func (op *serverOp) mkdir(m *protocol.Mkdir) (protocol.Message, error) {
	in, p, err := op.place(m.Place)
	if err != nil {
		return nil, err
	}
	return &protocol.OK{}, in.Mkdir(op.ctx, p, tree.Perm(m.Perm))
}

func (op *serverOp) symlink(m *protocol.Symlink) (protocol.Message, error) {
	in, p, err := op.place(m.Place)
	if err != nil {
		return nil, err
	}
	return &protocol.OK{}, in.Symlink(op.ctx, m.Target, p)
}

// errTwoTrees: names that two directories hold cannot be told to one of them.
var errTwoTrees = fmt.Errorf("between two open directories: %w", errors.ErrUnsupported)

func (op *serverOp) link(m *protocol.Link) (protocol.Message, error) {
	in, from, err := op.place(m.From)
	if err != nil {
		return nil, err
	}
	linker, ok := in.(tree.Linker)
	switch {
	case m.From.Dir != m.To.Dir:
		return nil, errTwoTrees
	case !ok:
		return nil, errors.ErrUnsupported
	}
	return &protocol.OK{}, linker.Link(op.ctx, from, tree.Path(m.To.Path))
}

func (op *serverOp) rename(m *protocol.Rename) (protocol.Message, error) {
	in, from, err := op.place(m.From)
	if err != nil {
		return nil, err
	}
	if m.From.Dir != m.To.Dir {
		return nil, errTwoTrees
	}
	return &protocol.OK{}, in.Rename(op.ctx, from, tree.Path(m.To.Path), renameFromWire(m.Mode))
}

func (op *serverOp) remove(m *protocol.Remove) (protocol.Message, error) {
	in, p, err := op.place(m.Place)
	if err != nil {
		return nil, err
	}
	return &protocol.OK{}, in.Remove(op.ctx, p)
}

func (op *serverOp) setAttr(m *protocol.SetAttr) (protocol.Message, error) {
	in, p, err := op.place(m.Place)
	if err != nil {
		return nil, err
	}
	return &protocol.OK{}, in.SetAttr(op.ctx, p, attrFromWire(&m.Attr))
}
