package native

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"sync"
	"time"

	"transferd/internal/tree"
	"transferd/protocol"
)

const (
	// smallBytes is how much of PUT and WRITE waits for the disk, of all sessions
	// together; a stream is not read while there is no room for what came on it.
	smallBytes = 32 << 20

	// How many operations of a session are carried out at the same time. PUT
	// waits for a disk that many of them share, and so needs many.
	parallelNames  = 64
	parallelPuts   = 512
	parallelHashes = 4
	parallelLists  = 64
	parallelWalks  = 8 // lists that are deep, and hold the directories that are to come

	// How many are of a stream: they hold memory until the client takes it, and
	// a stream that stalls keeps no other from being served.
	parallelGets  = 16
	parallelReads = 8

	// lookAgain is after how long at most an idle session is looked at again,
	// since its limit can change.
	lookAgain = time.Minute

	// lastAnswers is how long a server that ends waits for what is being done.
	lastAnswers = 5 * time.Second
)

// A serverSession is what one client does on one guest's tree.
type serverSession struct {
	server  *Server
	guest   Guest
	log     *slog.Logger
	name    [16]byte
	secret  [32]byte
	binding protocol.Binding
	bound   []byte // what joins are bound to, but over TLS
	maxData int    // of the client
	zstd    bool   // of both
	control *serverStream
	window  *window
	small   *poolShare
	uploads *serverUploads

	// ctx ends with the session. What changes the tree is finished even then;
	// it has hard, which ends when the session is cut off.
	ctx     context.Context
	cancel  context.CancelCauseFunc
	hard    context.Context
	cutOff  context.CancelCauseFunc
	running sync.WaitGroup // operations but uploads

	names, puts, hashes, lists, walks workers

	squeeze squeeze // of small files

	mu      sync.Mutex
	streams map[*serverStream]struct{}
	numbers joinNumbers
	open    map[uint64]*serverOp
	handles map[uint32]*handle
	ending  protocol.Code // why there are no more requests and joins; 0: there are
	drained chan struct{} // closed when open becomes empty; nil: nobody waits for that
	quiet   time.Time     // when open became empty
	idle    *time.Timer
}

// newServerSession makes the session that g has led to.
func newServerSession(g *greeting, guest *Guest) *serverSession {
	s := g.server
	one := &serverSession{
		server:  s,
		guest:   *guest,
		log:     s.c.Log,
		binding: g.stream.conn.Binding,
		bound:   g.stream.conn.Bound,
		maxData: int(g.hello.MaxData),
		zstd:    hasZstd(g.hello.Extensions),
		window:  &window{limit: sessionWindow + windowSlack},
		small:   s.small.share(),
		names:   workers{limit: parallelNames},
		puts:    workers{limit: parallelPuts},
		hashes:  workers{limit: parallelHashes},
		lists:   workers{limit: parallelLists},
		walks:   workers{limit: parallelWalks},
		streams: map[*serverStream]struct{}{},
		open:    map[uint64]*serverOp{},
		handles: map[uint32]*handle{},
		quiet:   time.Now(),
	}
	if one.binding == protocol.BindingStdio {
		one.bound = append(append([]byte(nil), g.hello.Nonce[:]...), g.serverNonce[:]...)
	}
	_, _ = rand.Read(one.name[:]) // never fails (crypto/rand)
	_, _ = rand.Read(one.secret[:])
	one.hard, one.cutOff = context.WithCancelCause(context.Background())
	one.ctx, one.cancel = context.WithCancelCause(one.hard)
	one.uploads = newServerUploads(s.chunks, one.window, &s.payloads, one.zstd, s.c.Log)
	if s.c.Expiry != nil {
		one.uploads.expiry = s.c.Expiry()
	}
	one.control = newServerStream(one, g.stream)
	one.streams[one.control] = struct{}{}
	return one
}

// inline is the largest file of a PUT or GOT.
func (one *serverSession) inline() int { return min(protocol.MaxInline, one.maxData) }

// add makes conn a further stream of the session.
func (one *serverSession) add(conn *stream) (*serverStream, error) {
	one.mu.Lock()
	defer one.mu.Unlock()
	if one.ending != 0 {
		return nil, refuseJoin(errors.New("the session has ended"))
	}
	if len(one.streams) >= sessionStreams {
		return nil, &Refusal{Code: protocol.CodeLimit, Message: "the session has as many streams as it may"}
	}
	on := newServerStream(one, conn)
	one.streams[on] = struct{}{}
	return on, nil
}

// remove forgets a further stream that has ended.
func (one *serverSession) remove(on *serverStream) {
	one.mu.Lock()
	defer one.mu.Unlock()
	delete(one.streams, on)
	for _, h := range one.handles {
		h.forget(on)
	}
	on.cancel()
}

// stop takes no more requests and joins, and reports whether it was the first.
func (one *serverSession) stop(code protocol.Code) bool {
	one.mu.Lock()
	defer one.mu.Unlock()
	if one.ending != 0 {
		return false
	}
	one.ending = code
	if one.idle != nil {
		one.idle.Stop()
	}
	return true
}

// goodbye ends all streams of the session, the control stream too, and returns
// when they are closed.
func (one *serverSession) goodbye(code protocol.Code, message string) {
	one.mu.Lock()
	var group sync.WaitGroup
	for on := range one.streams {
		group.Go(func() { on.conn.goodbye(code, message) })
	}
	one.mu.Unlock()
	group.Wait()
}

// end is what the end of the control stream brings: it returns when nothing of
// the session is left.
func (one *serverSession) end() {
	one.server.unregister(one)
	one.stop(protocol.CodeDone)
	one.cancel(errSessionOver)
	one.goodbye(protocol.CodeDone, "the session has ended")
	one.uploads.end()
	one.running.Wait()
	one.closeHandles()
	one.cutOff(errSessionOver)
	if one.guest.Done != nil {
		one.guest.Done()
	}
}

var errSessionOver = errors.New("the session has ended")

// shutDown ends the session because the server does: what is being done is
// finished and answered, uploads are suspended.
func (one *serverSession) shutDown(ctx context.Context) {
	if !one.stop(protocol.CodeShutdown) {
		return
	}
	one.mu.Lock()
	one.cancel(errShutdown)
	drained := make(chan struct{})
	if len(one.open) == 0 {
		close(drained)
	} else {
		one.drained = drained
	}
	one.mu.Unlock()
	patience := lastAnswers
	if end, ok := ctx.Deadline(); ok { // there shall be time for a GOODBYE
		patience = min(patience, time.Until(end)/2)
	}
	enough := time.NewTimer(patience)
	defer enough.Stop()
	select {
	case <-drained:
	case <-enough.C:
	case <-ctx.Done():
	}
	one.goodbye(protocol.CodeShutdown, errShutdown.Error())
}

// cut ends the session at once.
func (one *serverSession) cut() {
	one.mu.Lock()
	defer one.mu.Unlock()
	one.cutOff(errShutdown)
	for on := range one.streams {
		go on.conn.Close()
	}
}

// watchIdle begins to look whether the session is used.
func (one *serverSession) watchIdle() {
	if one.server.c.IdleTimeout == nil {
		return
	}
	one.mu.Lock()
	defer one.mu.Unlock()
	if one.ending == 0 {
		one.idle = time.AfterFunc(min(lookAgain, max(time.Second, one.server.c.IdleTimeout())), one.lookIdle)
	}
}

func (one *serverSession) lookIdle() {
	limit := one.server.c.IdleTimeout()
	one.mu.Lock()
	idle := limit > 0 && len(one.open) == 0 && time.Since(one.quiet) >= limit
	if !idle && one.ending == 0 {
		again := lookAgain
		if limit > 0 {
			again = min(again, limit)
			if len(one.open) == 0 {
				again = min(again, limit-time.Since(one.quiet))
			}
		}
		one.idle.Reset(max(again, time.Millisecond))
	}
	one.mu.Unlock()
	if idle && one.stop(protocol.CodeIdle) {
		one.goodbye(protocol.CodeIdle, "nothing was asked for too long a time")
	}
}

// A part is the tree of a session, or of one of its open directories.
type part interface {
	tree.Sink
	tree.Suber
}

// A counter bounds how many there are of something. The zero value has no
// limit.
type counter struct {
	limit int

	mu   sync.Mutex
	used int
}

func (c *counter) take() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.limit > 0 && c.used >= c.limit {
		return false
	}
	c.used++
	return true
}

func (c *counter) give() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.used--
}
