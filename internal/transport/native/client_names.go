package native

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"transferd/internal/tree"
	"transferd/protocol"
)

// extensionXattrs is the extension of docs/protocol.md, section 12.
const extensionXattrs = "xattrs"

// failed gives err the operation and name that it is about. The name is what
// branch.name says; whoever tells people can name it their way.
func failed(op, name string, err error) error {
	var fail *failError
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.As(err, &fail) && fail.Code == protocol.CodeCancelled:
		// Nobody waits any more for what was cancelled from here: the session ends.
		return &fs.PathError{Op: op, Path: name, Err: &lostError{fail}}
	case errors.As(err, &fail):
		return errorOf(fail.Code, fail.Message, op, name)
	}
	if unsent, ok := isBroken(err); ok && !errors.Is(err, tree.ErrLost) { // too long, or no path
		return errorOf(unsent.Code, unsent.Error(), op, name)
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// name names p for people: with the server, and from its root on, so that an
// error says where.
func (b *branch) name(p tree.Path) string {
	for d := b.dir; d != nil; d = d.parent {
		p = d.path.Append(p)
	}
	if p == tree.Root {
		return b.c.nameOf("/")
	}
	return b.c.nameOf("/" + string(p))
}

func (c *Client) nameOf(path string) string {
	if c.o.Label == "" {
		return path
	}
	return c.o.Label + ":" + path
}

// ask sends what request makes of the branch's directory over the control
// stream, and waits for the answer.
func (b *branch) ask(
	ctx context.Context, op string, p tree.Path, want protocol.Type, request func(dir uint32) protocol.Message,
) (protocol.Message, error) {
	s, dir, err := b.at(ctx)
	if err != nil {
		return nil, failed(op, b.name(p), err)
	}
	m, err := s.control.do(ctx, request(dir), want)
	return m, failed(op, b.name(p), err)
}

// tell is ask where the answer has nothing to tell.
func (b *branch) tell(ctx context.Context, op string, p tree.Path, request func(dir uint32) protocol.Message) error {
	_, err := b.ask(ctx, op, p, protocol.TypeOK, request)
	return err
}

func place(dir uint32, p tree.Path) protocol.Place {
	return protocol.Place{Dir: dir, Path: string(p)}
}

// Stat implements tree.Source.
func (b *branch) Stat(ctx context.Context, p tree.Path) (tree.Entry, error) {
	return b.stat(ctx, "stat", p, protocol.StatFollow)
}

// Lstat implements tree.Source.
func (b *branch) Lstat(ctx context.Context, p tree.Path) (tree.Entry, error) {
	return b.stat(ctx, "lstat", p, 0)
}

func (b *branch) stat(ctx context.Context, op string, p tree.Path, flags protocol.StatFlags) (tree.Entry, error) {
	m, err := b.ask(ctx, op, p, protocol.TypeFound, func(dir uint32) protocol.Message {
		return &protocol.Stat{Place: place(dir, p), Flags: flags}
	})
	if err != nil {
		return tree.Entry{}, err
	}
	return entryFromWire(p.Base(), &m.(*protocol.Found).Entry), nil
}

// Xattrs implements tree.Xattrer.
func (b *branch) Xattrs(ctx context.Context, p tree.Path) ([]tree.Xattr, error) {
	const op = "listxattr"
	s, dir, err := b.at(ctx)
	if err != nil {
		return nil, failed(op, b.name(p), err)
	}
	if !s.extension(extensionXattrs) {
		return nil, failed(op, b.name(p), errors.ErrUnsupported)
	}
	m, err := s.control.do(ctx, &protocol.Stat{Place: place(dir, p), Flags: protocol.StatXattrs}, protocol.TypeFound)
	if err != nil {
		return nil, failed(op, b.name(p), err)
	}
	xattrs := slices.DeleteFunc(xattrsFromWire(m.(*protocol.Found).Entry.Xattrs), func(x tree.Xattr) bool {
		return !strings.HasPrefix(x.Name, "user.") // the others are none of a copy's business
	})
	for i := range xattrs {
		if xattrs[i].Value == nil {
			xattrs[i].Value = []byte{} // nil stands for no attribute elsewhere
		}
	}
	slices.SortFunc(xattrs, func(x, y tree.Xattr) int { return strings.Compare(x.Name, y.Name) })
	return xattrs, nil
}

// Mkdir implements tree.Names.
func (b *branch) Mkdir(ctx context.Context, p tree.Path, perm tree.Perm) error {
	return b.tell(ctx, "mkdir", p, func(dir uint32) protocol.Message {
		return &protocol.Mkdir{Place: place(dir, p), Perm: uint32(perm)}
	})
}

// Symlink implements tree.Names.
func (b *branch) Symlink(ctx context.Context, target string, p tree.Path) error {
	return b.tell(ctx, "symlink", p, func(dir uint32) protocol.Message {
		return &protocol.Symlink{Place: place(dir, p), Target: target}
	})
}

// Rename implements tree.Names.
func (b *branch) Rename(ctx context.Context, from, to tree.Path, how tree.RenameMode) error {
	return b.tell(ctx, "rename", from, func(dir uint32) protocol.Message {
		return &protocol.Rename{From: place(dir, from), To: place(dir, to), Mode: renameToWire(how)}
	})
}

// Remove implements tree.Names.
func (b *branch) Remove(ctx context.Context, p tree.Path) error {
	return b.tell(ctx, "remove", p, func(dir uint32) protocol.Message {
		return &protocol.Remove{Place: place(dir, p)}
	})
}

// SetAttr implements tree.Names.
func (b *branch) SetAttr(ctx context.Context, p tree.Path, attr tree.Attr) error {
	return b.tell(ctx, "setattr", p, func(dir uint32) protocol.Message {
		return &protocol.SetAttr{Place: place(dir, p), Attr: attrToWire(attr)}
	})
}

// Link implements tree.Linker.
func (b *branch) Link(ctx context.Context, from, to tree.Path) error {
	return b.tell(ctx, "link", to, func(dir uint32) protocol.Message {
		return &protocol.Link{From: place(dir, from), To: place(dir, to)}
	})
}

// StatFS implements tree.Spacer.
func (b *branch) StatFS(ctx context.Context, p tree.Path) (tree.Space, error) {
	m, err := b.ask(ctx, "statfs", p, protocol.TypeMeasured, func(dir uint32) protocol.Message {
		return &protocol.Measure{Place: place(dir, p)}
	})
	if err != nil {
		return tree.Space{}, err
	}
	return spaceFromWire(m.(*protocol.Measured)), nil
}

// Sum implements tree.Summer.
func (b *branch) Sum(ctx context.Context, p tree.Path) (tree.Digest, error) {
	m, err := b.ask(ctx, "sum", p, protocol.TypeSummed, func(dir uint32) protocol.Message {
		return &protocol.Sum{Place: place(dir, p)}
	})
	if err != nil {
		return tree.Digest{}, err
	}
	return tree.Digest(m.(*protocol.Summed).Digest), nil
}
