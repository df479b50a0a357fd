package native

import (
	"context"
	"errors"
	"sync"

	"transferd/internal/tree"
	"transferd/protocol"
)

// A handle is an open directory or file of a session.
type handle struct {
	number uint32
	dir    tree.SubTree // nil: a file
	reader tree.Reader  // nil: a directory
	file   tree.File    // reader, where the tree gives more than reading
	flags  protocol.OpenFlags

	squeeze squeeze // of its bytes

	// Guarded by the session's mu.
	opened  bool      // until then the number is taken, and names nothing
	users   int       // operations that hold it
	closing *serverOp // CLOSE, which waits for users; the number names nothing then
	closed  bool

	mu    sync.Mutex
	lines map[*serverStream]*line // of streams that have written
	data  *layout
}

var errNotOpen = refuse(protocol.CodeClosed, "the handle is not open, or not for this")

// reserve takes a number for what is about to be opened.
func (one *serverSession) reserve(number uint32) (*handle, error) {
	one.mu.Lock()
	defer one.mu.Unlock()
	switch _, taken := one.handles[number]; {
	case taken:
		return nil, refuse(protocol.CodeBadState, "the handle is open already")
	case len(one.handles) >= sessionHandles:
		return nil, refuse(protocol.CodeLimit, "too many open handles")
	case !one.server.handles.take():
		return nil, refuse(protocol.CodeLimit, "too many open handles on this server")
	}
	h := &handle{number: number}
	one.handles[number] = h
	return h, nil
}

// opened ends what reserve began: h is open, or err says why not.
func (one *serverSession) opened(h *handle, err error) {
	one.mu.Lock()
	defer one.mu.Unlock()
	if err == nil {
		h.opened = true
		return
	}
	delete(one.handles, h.number)
	one.server.handles.give()
}

// hold keeps the handle called number open until letGo.
func (one *serverSession) hold(number uint32) (*handle, error) {
	one.mu.Lock()
	defer one.mu.Unlock()
	h := one.handles[number]
	if h == nil || !h.opened || h.closing != nil {
		return nil, errNotOpen
	}
	h.users++
	return h, nil
}

// letGo ends hold. Whoever is the last closes what is to be closed.
func (one *serverSession) letGo(h *handle) {
	if h == nil {
		return
	}
	one.mu.Lock()
	h.users--
	last := h.users == 0 && h.closing != nil
	one.mu.Unlock()
	if last {
		h.closing.answer(one.finish(h))
	}
}

// finish closes h, which nobody holds, and frees its number.
func (one *serverSession) finish(h *handle) (protocol.Message, error) {
	one.mu.Lock()
	first := !h.closed
	h.closed = true
	one.mu.Unlock()
	if !first {
		return nil, errNotOpen
	}
	err := one.within("CLOSE", func() error {
		if h.dir != nil {
			return h.dir.Close()
		}
		return h.reader.Close()
	})
	one.mu.Lock()
	delete(one.handles, h.number)
	one.mu.Unlock()
	one.server.handles.give()
	return &protocol.OK{}, err
}

// closeHandles closes what is open when the session has ended.
func (one *serverSession) closeHandles() {
	one.mu.Lock()
	var left []*handle
	for _, h := range one.handles {
		if h.opened {
			left = append(left, h)
		}
	}
	one.mu.Unlock()
	for _, h := range left {
		if _, err := one.finish(h); err != nil && !errors.Is(err, tree.ErrClosed) {
			one.log.WarnContext(one.hard, "file not closed in order", "user", one.guest.User, "error", err)
		}
	}
}

// closeHandle carries out CLOSE. What came before for the handle goes on; the
// last of that closes it and answers.
func (op *serverOp) closeHandle(m *protocol.Close) (protocol.Message, error) {
	one := op.on.session
	one.mu.Lock()
	h := one.handles[m.Handle]
	if h == nil || !h.opened || h.closing != nil {
		one.mu.Unlock()
		return nil, errNotOpen
	}
	h.closing = op
	idle := h.users == 0
	one.mu.Unlock()
	if !idle {
		return nil, nil //nolint:nilnil // it is answered later
	}
	return one.finish(h)
}

func (op *serverOp) openDir(m *protocol.OpenDir) (protocol.Message, error) {
	in, p, err := op.place(m.Place)
	if err != nil {
		return nil, err
	}
	one := op.on.session
	h, err := one.reserve(m.Handle)
	if err != nil {
		return nil, err
	}
	err = errors.New("the directory was not opened")
	defer func() { one.opened(h, err) }()
	h.dir, err = in.Sub(op.ctx, p)
	return &protocol.OK{}, err
}

// An opener is a tree with files that can be opened for more than reading.
type opener interface {
	OpenFile(ctx context.Context, p tree.Path, flags tree.OpenFlags, perm tree.Perm) (tree.File, error)
}

func (op *serverOp) open(m *protocol.Open) (protocol.Message, error) {
	in, p, err := op.place(m.Place)
	if err != nil {
		return nil, err
	}
	one := op.on.session
	h, err := one.reserve(m.Handle)
	if err != nil {
		return nil, err
	}
	err = errors.New("the file was not opened")
	defer func() { one.opened(h, err) }()
	h.flags = m.Flags
	files, ok := in.(opener)
	switch {
	case ok:
		if h.file, err = files.OpenFile(op.ctx, p, openFromWire(m.Flags), tree.Perm(m.Perm)); err == nil {
			h.reader = h.file
		}
	case m.Flags == protocol.OpenRead:
		h.reader, err = in.Open(op.ctx, p)
	default:
		err = errors.ErrUnsupported
	}
	if err != nil {
		return nil, err
	}
	e, err := h.reader.Stat(op.ctx)
	if err != nil {
		return nil, errors.Join(err, h.reader.Close())
	}
	return &protocol.Found{Entry: entryToWire(e, nil)}, nil
}

func (op *serverOp) statFile() (protocol.Message, error) {
	if op.denied != nil {
		return nil, op.denied
	}
	var (
		e   tree.Entry
		err error
	)
	if op.h.dir != nil {
		e, err = op.h.dir.Stat(op.ctx, tree.Root)
	} else {
		e, err = op.h.reader.Stat(op.ctx)
	}
	return &protocol.Found{Entry: entryToWire(e, nil)}, err
}

func (op *serverOp) setAttrFile(m *protocol.SetAttrFile) (protocol.Message, error) {
	if op.denied != nil {
		return nil, op.denied
	}
	if op.h.file == nil {
		return nil, errors.ErrUnsupported
	}
	return &protocol.OK{}, op.h.file.SetAttr(op.ctx, attrFromWire(&m.Attr))
}

func (op *serverOp) sync() (protocol.Message, error) {
	if op.denied != nil {
		return nil, op.denied
	}
	if op.h.file == nil { // nothing was written
		return &protocol.OK{}, nil
	}
	return &protocol.OK{}, op.h.file.Sync(op.ctx)
}

func (op *serverOp) write(m *protocol.Write) (protocol.Message, error) {
	switch {
	case op.denied != nil:
		return nil, op.denied
	case op.h.flags&protocol.OpenWrite == 0 || op.h.file == nil:
		return nil, refuse(protocol.CodePermission, "the handle is not open for writing")
	}
	_, err := op.h.file.WriteAt(m.Data, m.Offset)
	return &protocol.OK{}, err
}

// add has op carried out behind the writes that came before it on its stream.
func (h *handle) add(op *serverOp, writes bool) {
	h.mu.Lock()
	l := h.lines[op.on]
	if l == nil && writes {
		if h.lines == nil {
			h.lines = map[*serverStream]*line{}
		}
		l = &line{start: func(op *serverOp) { op.how.pool.do(op) }}
		h.lines[op.on] = l
	}
	h.mu.Unlock()
	if l == nil {
		op.how.pool.do(op)
		return
	}
	l.add(op, writes)
}

// forget drops what is kept for a stream that has ended; what is in its line
// goes on.
func (h *handle) forget(on *serverStream) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.lines, on)
}
