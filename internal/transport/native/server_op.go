package native

import (
	"context"
	"errors"
	"runtime/debug"
	"sync"
	"time"

	"transferd/internal/tree"
	"transferd/protocol"
)

// A serverOp is one operation, from its request to its last answer.
type serverOp struct {
	on  *serverStream
	id  uint64
	m   protocol.Message
	how ways

	exclusive bool  // in the line it waits in
	counted   int64 // bytes of the session's window
	held      int64 // bytes of memory while it waits and runs

	ctx    context.Context
	cancel context.CancelFunc // nil: CANCEL changes nothing
	credit *credit            // of LIST
	upload *lateBegin         // of BEGIN, which is an operation of uploads

	h       *handle // file that it is about, held
	dir     *handle // directory that its path begins at, held; nil: the root of the session
	denied  error   // why there is none of these
	settled bool    // what it holds has been given back
}

// ways are how a kind of request is dealt with.
type ways struct {
	changesNames bool // in the order of its stream, before anything later
	writes       bool // in the order of its stream, among those of its handle
	breaksOff    bool // where nobody is left to take the answer, or CANCEL comes
	pool         *workers
}

// waysOf tells how m is dealt with; not known is what begins no operation.
func (on *serverStream) waysOf(m protocol.Message) (ways, bool) {
	one := on.session
	switch m := m.(type) {
	case *protocol.Mkdir, *protocol.Symlink, *protocol.Link, *protocol.Rename, *protocol.Remove,
		*protocol.SetAttr, *protocol.OpenDir, *protocol.Open, *protocol.Close:
		return ways{changesNames: true, pool: &one.names}, true
	case *protocol.Write, *protocol.SetAttrFile:
		return ways{writes: true, pool: &one.names}, true
	case *protocol.Sync:
		return ways{pool: &one.names}, true
	case *protocol.Stat, *protocol.Resolve, *protocol.Measure, *protocol.StatFile, *protocol.Map, *protocol.Extend:
		return ways{breaksOff: true, pool: &one.names}, true
	case *protocol.List:
		if m.Flags&protocol.ListDeep != 0 {
			return ways{breaksOff: true, pool: &one.walks}, true
		}
		return ways{breaksOff: true, pool: &one.lists}, true
	case *protocol.Sum, *protocol.Hash:
		return ways{breaksOff: true, pool: &one.hashes}, true
	case *protocol.Read:
		return ways{breaksOff: true, pool: &on.reads}, true
	case *protocol.Get:
		return ways{breaksOff: true, pool: &on.gets}, true
	case *protocol.Put:
		return ways{pool: &one.puts}, true
	case *protocol.Begin:
		return ways{}, true
	default:
		return ways{}, false
	}
}

// lightBody is up to how long a body is not counted as memory: so many of it
// may be held by every operation of a session.
const lightBody = 4 << 10

// weigh tells what the operation, whose body has length bytes, takes of the
// window and of the memory.
func (op *serverOp) weigh(length uint32) {
	switch m := op.m.(type) {
	case *protocol.Put:
		op.counted, op.held = m.Size, max(m.Size, int64(length))
	case *protocol.Write:
		op.counted = int64(len(m.Data))
		op.held = op.counted
	case *protocol.Begin: // two texts at most, and settled elsewhere
	default:
		if length > lightBody {
			op.held = int64(length)
		}
	}
}

// begin makes op open. The error is why it cannot be.
func (one *serverSession) begin(op *serverOp) error {
	one.mu.Lock()
	defer one.mu.Unlock()
	switch _, open := one.open[op.id]; {
	case open:
		return outOfPlace(protocol.TypeOf(op.m))
	case one.ending != 0:
		return refuse(protocol.CodeShutdown, "the session ends")
	case len(one.open) >= sessionOperations:
		return refuse(protocol.CodeLimit, "too many operations at the same time")
	case op.counted > 0 && !one.window.take(op.counted):
		return refuse(protocol.CodeWindow, "more was sent than the window allows")
	}
	one.open[op.id] = op
	one.running.Add(1)
	return nil
}

// find returns the open operation with id, nil if there is none.
func (one *serverSession) find(id uint64) *serverOp {
	one.mu.Lock()
	defer one.mu.Unlock()
	return one.open[id]
}

// prepare is what an operation needs before anything else about it can come.
func (op *serverOp) prepare() {
	one := op.on.session
	op.ctx = one.hard
	if op.how.breaksOff {
		op.ctx, op.cancel = context.WithCancel(op.on.ctx)
	}
	switch m := op.m.(type) {
	case *protocol.List:
		op.credit = newCredit(m.Frames)
	case *protocol.Begin:
		op.upload = &lateBegin{op: op, turn: make(chan struct{})}
		one.uploads.begin(one.ctx, op.on.conn, op.id, m, op.upload, func() {
			op.upload.giveFiles()
			op.settle()
			one.running.Done()
		})
	}
}

// start is where a request begins that is not carried out within the line of its
// stream.
func (op *serverOp) start() {
	if op.settled { // BEGIN, and the session has ended meanwhile
		return
	}
	op.find()
	switch {
	case op.upload != nil:
		close(op.upload.turn)
	case op.h != nil:
		op.h.add(op, op.how.writes)
	default:
		op.how.pool.do(op)
	}
}

// find takes hold of the handles that the request names: what happens to them
// later on the stream does not concern it.
func (op *serverOp) find() {
	switch m := op.m.(type) {
	case *protocol.Stat:
		op.enter(m.Dir)
	case *protocol.List:
		op.enter(m.Dir)
	case *protocol.Measure:
		op.enter(m.Dir)
	case *protocol.Sum:
		op.enter(m.Dir)
	case *protocol.Get:
		op.enter(m.Dir)
	case *protocol.Put:
		op.enter(m.Dir)
	case *protocol.Begin:
		op.enter(m.Dir)
	case *protocol.StatFile:
		op.h, op.denied = op.on.session.hold(m.Handle)
	case *protocol.SetAttrFile:
		op.useFile(m.Handle)
	case *protocol.Sync:
		op.useFile(m.Handle)
	case *protocol.Read:
		op.useFile(m.Handle)
	case *protocol.Write:
		op.useFile(m.Handle)
	case *protocol.Map:
		op.useFile(m.Handle)
	case *protocol.Hash:
		op.useFile(m.Handle)
	}
}

func (op *serverOp) enter(dir uint32) {
	if dir == 0 {
		return
	}
	if op.dir, op.denied = op.on.session.hold(dir); op.denied == nil && op.dir.dir == nil {
		op.denied = errNotOpen
	}
}

func (op *serverOp) useFile(number uint32) {
	if op.h, op.denied = op.on.session.hold(number); op.denied == nil && op.h.reader == nil {
		op.denied = errNotOpen
	}
}

// in returns the tree that the paths of the operation are in.
func (op *serverOp) in() (part, error) {
	switch {
	case op.denied != nil:
		return nil, op.denied
	case op.dir != nil:
		return op.dir.dir, nil
	default:
		return op.on.session.guest.Tree, nil
	}
}

// place is in for what is carried out in the line of its stream.
func (op *serverOp) place(p protocol.Place) (part, tree.Path, error) {
	op.enter(p.Dir)
	in, err := op.in()
	return in, tree.Path(p.Path), err
}

// carryOut does what was asked for and answers it.
func (op *serverOp) carryOut() {
	defer op.on.session.running.Done()
	answer, err := op.try()
	if err == nil && answer == nil { // it was answered already, or will be
		if op.how.changesNames {
			return
		}
		op.settle()
		return
	}
	op.answer(answer, err)
}

// try does what was asked for, unless nobody wants it any more.
func (op *serverOp) try() (answer protocol.Message, err error) {
	one := op.on.session
	err = one.within(protocol.TypeOf(op.m).String(), func() error {
		if err := one.over(); err != nil {
			return err
		}
		if err := op.ctx.Err(); err != nil {
			return err
		}
		var err error
		answer, err = op.do()
		return err
	})
	return answer, err
}

// within keeps a panic of f within the operation that it is of.
func (one *serverSession) within(operation string, f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			one.log.ErrorContext(one.hard, "operation panicked", "user", one.guest.User,
				"operation", operation, "panic", p, "stack", string(debug.Stack()))
			err = refuse(protocol.CodeFailure, "internal error of the server")
		}
	}()
	return f()
}

// over returns why the session takes up nothing more, nil if it does.
func (one *serverSession) over() error {
	if one.ctx.Err() == nil {
		return nil
	}
	one.mu.Lock()
	defer one.mu.Unlock()
	if one.ending == protocol.CodeShutdown {
		return refuse(protocol.CodeShutdown, "%v", errShutdown)
	}
	return refuse(protocol.CodeCancelled, "the session has ended")
}

// do is the table of what can be asked for.
func (op *serverOp) do() (protocol.Message, error) {
	switch m := op.m.(type) {
	case *protocol.Stat:
		return op.stat(m)
	case *protocol.List:
		return op.list(m)
	case *protocol.Resolve:
		return op.resolve(m)
	case *protocol.Measure:
		return op.measure(m)
	case *protocol.Sum:
		return op.sum(m)
	case *protocol.Mkdir:
		return op.mkdir(m)
	case *protocol.Symlink:
		return op.symlink(m)
	case *protocol.Link:
		return op.link(m)
	case *protocol.Rename:
		return op.rename(m)
	case *protocol.Remove:
		return op.remove(m)
	case *protocol.SetAttr:
		return op.setAttr(m)
	case *protocol.OpenDir:
		return op.openDir(m)
	case *protocol.Open:
		return op.open(m)
	case *protocol.Close:
		return op.closeHandle(m)
	case *protocol.StatFile:
		return op.statFile()
	case *protocol.SetAttrFile:
		return op.setAttrFile(m)
	case *protocol.Sync:
		return op.sync()
	case *protocol.Read:
		return op.read(m)
	case *protocol.Write:
		return op.write(m)
	case *protocol.Map:
		return op.mapHoles(m)
	case *protocol.Hash:
		return op.hash(m)
	case *protocol.Get:
		return op.get(m)
	case *protocol.Put:
		return op.put(m)
	default: // EXTEND: there are no extensions
		return nil, errors.ErrUnsupported
	}
}

// settle gives back what the operation held and ends it: its last answer is to
// be sent next. It may be called again.
func (op *serverOp) settle() {
	if op.settled {
		return
	}
	op.settled = true
	op.m = nil // the last answer may wait long for its client
	one := op.on.session
	if op.cancel != nil {
		op.cancel()
	}
	if op.held > 0 {
		one.small.release(op.held)
	}
	if op.counted > 0 {
		one.window.give(op.counted)
	}
	one.letGo(op.h)
	one.letGo(op.dir)
	one.mu.Lock()
	defer one.mu.Unlock()
	delete(one.open, op.id)
	if len(one.open) > 0 {
		return
	}
	one.quiet = time.Now()
	if one.drained != nil {
		close(one.drained)
		one.drained = nil
	}
}

// answer ends the operation.
func (op *serverOp) answer(m protocol.Message, err error) {
	if err != nil {
		if over := op.on.session.over(); over != nil && errors.Is(err, context.Canceled) {
			err = over
		}
		m = failOf(err)
	}
	op.settle()
	err = op.on.conn.send(op.on.session.hard, op.id, m)
	if broken, ok := isBroken(err); ok { // what the tree told does not fit the message
		_ = op.on.conn.send(op.on.session.hard, op.id, &protocol.Fail{Code: broken.Code, Message: broken.Error()})
	}
}

// A lateBegin is where an upload begins when it is its turn: DATA may come
// before that.
type lateBegin struct {
	op   *serverOp
	turn chan struct{} // closed by start
	took int           // of the server's handles
}

// uploadHandles is what an upload counts among the handles of the server: it has
// its partial, a journal and their directory open.
const uploadHandles = 2

// takeFiles counts the files of the upload, and reports whether there is room.
func (l *lateBegin) takeFiles() bool {
	for l.took < uploadHandles {
		if !l.op.on.session.server.handles.take() {
			l.giveFiles()
			return false
		}
		l.took++
	}
	return true
}

func (l *lateBegin) giveFiles() {
	for ; l.took > 0; l.took-- {
		l.op.on.session.server.handles.give()
	}
}

// Begin implements beginner.
func (l *lateBegin) Begin(ctx context.Context, u tree.Upload) (tree.Writer, error) {
	<-l.turn // whatever it is behind, it comes: start and settle must not meet
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	in, err := l.op.in()
	if err != nil {
		return nil, err
	}
	if !l.takeFiles() {
		return nil, refuse(protocol.CodeLimit, "too many open files on this server")
	}
	w := containedWriter{one: l.op.on.session}
	err = w.within(func() error {
		var err error
		w.below, err = in.Begin(ctx, u)
		return err
	})
	if err != nil {
		return nil, err
	}
	return w, nil
}

// A credit is how many LISTED may be sent.
type credit struct {
	mu    sync.Mutex
	left  uint64
	added chan struct{} // size 1: left has grown
}

func newCredit(n uint32) *credit {
	return &credit{left: uint64(n), added: make(chan struct{}, 1)}
}

func (c *credit) add(n uint32) {
	c.mu.Lock()
	c.left += uint64(n)
	c.mu.Unlock()
	select {
	case c.added <- struct{}{}:
	default:
	}
}

// take waits for one.
func (c *credit) take(ctx context.Context) error {
	for {
		c.mu.Lock()
		if c.left > 0 {
			c.left--
			c.mu.Unlock()
			return nil
		}
		c.mu.Unlock()
		select {
		case <-c.added:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
