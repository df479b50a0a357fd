package sftp

import (
	"fmt"
	"io"
	"math"
	"sync"
)

// An interposer stands between the channel and pkg/sftp's RequestServer, as
// the stream that RequestServer serves. It cuts what the client sends into
// packets, answers itself what RequestServer cannot or must not (see requests),
// and hands the rest on, checked, so that RequestServer never sees garbage.
//
// It has no goroutine: it works when RequestServer's loop reads, one packet
// after another. So WRITEs are done in the order in which they arrived, each
// before the next packet is looked at, and after the process was killed a file
// is a prefix of what its client did. RequestServer alone has eight workers,
// which leave holes.
//
// READs are done by those workers, side by side. Everything is as if requests
// were served one after another (draft-02 asks for that, under "Request
// Synchronization and Reordering"): READs wait for requests before them that
// change data, and those for READs; the interposer's own requests wait for all
// that were handed on before and are no READs, see settle.
type interposer struct {
	// config
	server  *server
	channel io.ReadWriteCloser
	allowed requestTable

	// state of the reading side, which is one goroutine
	in      packetReader
	fields  cursor // of the packet; here, not on the heap for every one
	greeted bool   // INIT was answered
	end     error  // what Read has returned last
	onward  []byte // what RequestServer has not yet read of the packet handed on

	replies replies

	mu       sync.Mutex
	answered sync.Cond // signalled whenever RequestServer has answered
	waiting  []passed  // handed on and not answered, in order; RequestServer answers in order
	asked    []openRequest
	fresh    []*handle // opened, their HANDLE reply not yet seen
	handles  map[string]*handle
	held     int // handles open, those without a name yet included
	reads    int // READs among waiting
	changes  int // requests among waiting that change data
}

// maxReads is how many READs RequestServer may have at once. Each holds two
// pages of 256 KiB there, and eight are worked on.
const maxReads = 16

// passed is a request that was handed on.
type passed struct {
	kind    packetType
	changes bool
	of      *handle // of a READ
}

// openRequest is what an OPEN asks for. pkg/sftp loses the attributes.
type openRequest struct {
	flags uint32
	attrs attrs
}

func newInterposer(s *server, channel io.ReadWriteCloser) *interposer {
	i := &interposer{
		server:  s,
		channel: channel,
		allowed: newRequestTable(s.o),
		handles: make(map[string]*handle),
	}
	i.answered.L = &i.mu
	i.replies.w = channel
	i.in = packetReader{r: channel, idle: i.replies.flush}
	return i
}

// Read gives RequestServer the next packet that it shall answer, after doing
// everything that came before it.
func (i *interposer) Read(p []byte) (int, error) {
	for len(i.onward) == 0 {
		if err := i.step(); err != nil {
			// RequestServer, once it knows, may drop answers it still has.
			i.finish()
			i.end = err
			return 0, err
		}
	}
	n := copy(p, i.onward)
	i.onward = i.onward[n:]
	return n, nil
}

// step takes the next packet.
func (i *interposer) step() (err error) {
	defer i.server.rescue(&err)
	frame, err := i.in.nextFrame()
	if err == nil {
		err = i.take(frame)
	}
	return err
}

// take answers a packet, or makes it what Read returns. An error ends the
// session.
func (i *interposer) take(frame []byte) error {
	p := packet(frame[4:])
	i.fields = p.body()
	c := &i.fields
	if p.kind() == typeInit {
		return i.greet(c)
	}
	if !i.greeted {
		return fmt.Errorf("%w: type %d before INIT", errBadPacket, p.kind())
	}
	id := c.uint32()
	if c.err != nil {
		return c.err
	}
	var name []byte
	if p.kind() == typeExtended {
		if name = c.bytes(); c.err != nil {
			return c.err
		}
	}
	r, verdict := i.allowed.find(p.kind(), name)
	if verdict != nil {
		i.status(id, verdict)
		return nil
	}
	if r.answer != nil {
		return r.answer(i, id, c)
	}
	return i.handOn(r, id, frame, *c)
}

// greet answers INIT.
func (i *interposer) greet(c *cursor) error {
	c.uint32() // the client's version; ours is the only one
	if c.err != nil {
		return c.err
	}
	if i.greeted {
		return fmt.Errorf("%w: INIT again", errBadPacket)
	}
	i.greeted = true
	i.replies.send(func(w *builder) {
		w.begin(typeVersion)
		w.uint32(protocolVersion)
		for _, r := range i.allowed.extensions() {
			w.text(r.extension)
			w.text(r.version)
		}
		w.end()
	})
	return nil
}

// handOn gives a request to RequestServer, as soon as it may.
func (i *interposer) handOn(r *request, id uint32, frame []byte, c cursor) error {
	fields := c
	if !fields.matches(r.fields) {
		return errBadPacket
	}
	if (r.kind == typeRead || r.kind == typeReaddir) && i.replies.failure() != nil {
		return nil // only what changes something is carried out for a client that is gone
	}
	next := passed{kind: r.kind, changes: r.changes}
	var open openRequest
	var refused error
	i.mu.Lock()
	defer i.mu.Unlock()
	if r.kind == typeOpen {
		c.bytes()
		open = openRequest{flags: c.uint32(), attrs: c.attrs()}
		refused = i.server.checkOpen(open.flags)
		next.changes = open.flags&openTrunc != 0
	}
	if r.handle {
		next.of, refused = i.checkHandle(r.kind, &c)
	}
	if refused != nil {
		i.status(id, refused)
		return nil
	}
	i.waitFor(func() bool { return next.may(i) })
	if r.kind == typeOpen {
		i.asked = append(i.asked, open)
	}
	if next.of != nil {
		next.of.reads++
		i.reads++
	}
	if next.changes {
		i.changes++
	}
	i.waiting = append(i.waiting, next)
	i.onward = frame
	return nil
}

// checkHandle looks at the handle of a CLOSE, READDIR or READ before
// RequestServer does, which would read from any. It returns the handle of a
// READ alone.
func (i *interposer) checkHandle(kind packetType, c *cursor) (*handle, error) {
	name := c.bytes()
	h := i.handles[string(name)]
	if h == nil {
		return nil, errBadHandle
	}
	if kind == typeClose {
		delete(i.handles, string(name)) // no later request finds it
		return nil, nil
	}
	if kind == typeReaddir {
		if h.dir == nil {
			return nil, errBadHandle
		}
		return nil, nil
	}
	if h.file == nil || !h.readable {
		return nil, errBadHandle
	}
	if c.uint64() > math.MaxInt64 {
		return nil, errBadSize
	}
	return h, nil
}

// may reports whether p may be handed on beside what is being worked on.
func (p passed) may(i *interposer) bool {
	switch {
	case p.of != nil:
		return i.changes == 0 && i.reads < maxReads
	case p.changes:
		return i.reads == 0
	}
	return true
}

// settle waits until every request handed on before, READs excepted, is
// answered, and until READs of h are, if it is given. It is what every request
// that the interposer answers itself begins with.
func (i *interposer) settle(h *handle) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.waitFor(func() bool { return i.settled(h) })
}

func (i *interposer) settled(h *handle) bool {
	return len(i.waiting) == i.reads && (h == nil || h.reads == 0)
}

// waitFor waits for ready, which holds when RequestServer has answered enough:
// it works on without being read from. mu is held.
func (i *interposer) waitFor(ready func() bool) {
	if ready() {
		return
	}
	i.replies.flush()
	for !ready() {
		i.answered.Wait()
	}
}

// status answers with the STATUS that tells of err, success included.
func (i *interposer) status(id uint32, err error) {
	i.server.note(err)
	i.replies.status(id, err)
}

// file returns the open file that name names, settled: for whatever comes
// next.
func (i *interposer) file(name []byte) (*handle, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	h := i.handles[string(name)]
	if h == nil || h.file == nil {
		return nil, errBadHandle
	}
	if !i.settled(h) {
		i.waitFor(func() bool { return i.settled(h) })
	}
	return h, nil
}

// Write takes replies of RequestServer and sends them when they are whole:
// RequestServer writes the header of DATA by itself.
func (i *interposer) Write(p []byte) (int, error) {
	i.replies.relay(p, i.noteReply)
	return len(p), nil
}

// noteReply counts one reply of RequestServer, before the client sees it.
func (i *interposer) noteReply(reply packet) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.waiting) == 0 {
		return
	}
	done := i.waiting[0]
	i.waiting = i.waiting[1:]
	if done.of != nil {
		done.of.reads--
		i.reads--
	}
	if done.changes {
		i.changes--
	}
	if reply.kind() == typeHandle && len(i.fresh) > 0 {
		c := reply.body()
		c.uint32()
		i.handles[c.text()] = i.fresh[0]
		i.fresh = i.fresh[1:]
	}
	i.answered.Broadcast()
}

// nextOpen returns what the OPEN asks for that RequestServer is working on.
func (i *interposer) nextOpen() openRequest {
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.asked) == 0 {
		return openRequest{}
	}
	next := i.asked[0]
	i.asked = i.asked[1:]
	return next
}

// opened tells of a handle whose HANDLE reply comes next.
func (i *interposer) opened(h *handle) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.fresh = append(i.fresh, h)
}

// reserve counts one more open handle, if that is allowed; release undoes it.
func (i *interposer) reserve() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.held >= i.server.o.MaxHandles || !i.server.o.Handles.take() {
		return false
	}
	i.held++
	return true
}

func (i *interposer) release() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.held--
	i.server.o.Handles.give()
}

// finish waits until everything handed on is answered, and sends what is held.
func (i *interposer) finish() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.waitFor(func() bool { return len(i.waiting) == 0 })
	i.replies.flush()
}

// Close is what RequestServer calls when it gives up.
func (i *interposer) Close() error {
	i.breakOff()
	return nil
}

// breakOff ends the session: whatever reads or writes the channel fails.
func (i *interposer) breakOff() {
	if err := i.channel.Close(); err != nil {
		i.server.o.Log.DebugContext(i.server.ctx, "close sftp channel", "err", err)
	}
}
