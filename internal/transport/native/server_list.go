package native

import (
	"errors"

	"transferd/internal/tree"
	"transferd/protocol"
)

// listedBytes and listedNames are about how much one LISTED has: enough that a
// tree costs few of them, and little enough that the first names come soon.
const (
	listedBytes = 32 << 10
	listedNames = 256
)

// list carries out LIST.
func (op *serverOp) list(m *protocol.List) (protocol.Message, error) {
	in, err := op.in()
	if err != nil {
		return nil, err
	}
	l := &lister{op: op, in: in, deep: m.Flags&protocol.ListDeep != 0}
	if m.Flags&protocol.StatXattrs != 0 {
		able, ok := in.(tree.Xattrer)
		if !ok {
			return nil, errors.ErrUnsupported
		}
		l.xattrs = able
	}
	if err := l.walk(tree.Path(m.Path)); err != nil {
		return nil, err
	}
	if err := op.credit.take(op.ctx); err != nil {
		return nil, err
	}
	return &protocol.Listed{Last: true, Names: l.names}, nil
}

// A lister gathers names for LISTED.
type lister struct {
	op     *serverOp
	in     part
	xattrs tree.Xattrer // nil: they are not wanted
	deep   bool

	names []protocol.Listing // not sent yet
	bytes int
	dirs  []family // not listed yet
}

// A family is the directories in one directory that are still to be listed. Paths
// are made when they are needed: of many directories far down they take much.
type family struct {
	parent tree.Path // below the directory that was asked for
	names  []string
}

// walk lists top and, with deep, what is below it. Only what top itself cannot
// tell is an error.
func (l *lister) walk(top tree.Path) error {
	if err := l.listDir(top, tree.Root); err != nil {
		return err
	}
	for len(l.dirs) > 0 {
		below := l.nextDir()
		err := l.listDir(top.Append(below), below)
		if over := l.op.ctx.Err(); over != nil {
			return over
		}
		if err != nil {
			if err := l.tell(listingToWire(below, tree.Entry{}, nil, err)); err != nil {
				return err
			}
		}
	}
	return nil
}

// nextDir takes one of the directories that are to be listed.
func (l *lister) nextDir() tree.Path {
	last := &l.dirs[len(l.dirs)-1]
	below := last.parent.Join(last.names[len(last.names)-1])
	if last.names = last.names[:len(last.names)-1]; len(last.names) == 0 {
		*last = family{}
		l.dirs = l.dirs[:len(l.dirs)-1]
	}
	return below
}

// listDir tells the names in directory p; below is what p is for the client.
func (l *lister) listDir(p, below tree.Path) error {
	var dirs []string
	defer func() {
		if len(dirs) > 0 {
			l.dirs = append(l.dirs, family{below, dirs})
		}
	}()
	for e, err := range l.in.List(l.op.ctx, p) {
		if err == nil {
			err = l.op.ctx.Err()
		}
		if err != nil {
			return err
		}
		name := below.Join(e.Name)
		if len(name) > protocol.MaxPath {
			return refuse(protocol.CodeTooLarge, "a path is too long")
		}
		var xattrs []tree.Xattr
		if l.xattrs != nil && e.Kind != tree.KindSymlink {
			xattrs, err = l.xattrs.Xattrs(l.op.ctx, p.Join(e.Name))
			if errors.Is(err, errors.ErrUnsupported) { // it can have none
				err = nil
			}
		}
		if err := l.tell(l.fit(listingToWire(name, e, xattrs, err))); err != nil {
			return err
		}
		if l.deep && e.Kind == tree.KindDir {
			dirs = append(dirs, e.Name)
		}
	}
	return nil
}

// fit replaces what is too large for any message by the reason.
func (l *lister) fit(x protocol.Listing) protocol.Listing {
	if entrySize(&x.Entry)+len(x.Path) > l.op.on.session.maxData {
		return protocol.Listing{Path: x.Path, Code: protocol.CodeTooLarge}
	}
	return x
}

// tell adds a name to the next LISTED, and sends that when it is full.
func (l *lister) tell(x protocol.Listing) error {
	size := entrySize(&x.Entry) + len(x.Path)
	if len(l.names) > 0 && (len(l.names) >= listedNames || l.bytes+size > listedBytes) {
		if err := l.op.credit.take(l.op.ctx); err != nil {
			return err
		}
		if err := l.op.on.conn.send(l.op.ctx, l.op.id, &protocol.Listed{Names: l.names}); err != nil {
			return err
		}
		l.names, l.bytes = l.names[:0], 0
	}
	l.names = append(l.names, x)
	l.bytes += size
	return nil
}
