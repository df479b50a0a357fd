package native

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"transferd/internal/tree"
	"transferd/protocol"
)

const (
	// journalWindow is how much may be sent and not be durable, where that is
	// what a broken connection costs (docs/protocol.md, section 9).
	journalWindow = 96 << 20

	// streamWindow is that of uploads of unknown size, which lie in memory while
	// whoever reads the FIFO behind them does not.
	streamWindow = 16 << 20

	// windowSlack is what is let pass above a window: a chunk that is sent a
	// second time, on another stream, is not counted alike by both sides.
	windowSlack = 2 * protocol.MaxChunk

	// commitSilence is how long COMMIT waits for DATA that does not come.
	commitSilence = 30 * time.Second

	// suspendGrace is how long chunks that have arrived may take to be written
	// when nobody waits for them any more.
	suspendGrace = 5 * time.Second

	// mostChunks is the most that a file may have: more of them than any disk
	// holds, and few enough to be gone through.
	mostChunks = 1 << 22
)

// A serverUpload is one upload, from BEGIN to its last answer. One goroutine,
// run, begins and ends it; chunks are written by others.
type serverUpload struct {
	session *serverUploads
	st      *stream // that BEGIN came on, and all answers go to
	id      uint64
	asked   tree.Upload
	release func()

	ctx      context.Context    // ends when the upload fails
	stop     context.CancelFunc // of ctx
	beginCtx context.Context    // of Begin; CANCEL ends it as well
	unbegin  context.CancelFunc
	writeCtx context.Context // of chunks: ends suspendGrace after ctx
	unwrite  context.CancelFunc

	gone   chan struct{} // closed when no more DATA is taken
	wake   chan struct{} // size 1: run has something to look at
	ready  chan struct{} // closed when BEGUN has been sent, or never will be
	writer tree.Writer   // written before ready is closed; nil if it did not begin

	mu       sync.Mutex
	changed  *sync.Cond // chunks, over, writing, checking
	over     bool       // no more DATA is taken: gone is closed
	journal  bool       // chunks are told when they are durable
	failure  error      // why it ends early
	nobody   bool       // nobody is to be told
	end      protocol.Message
	attrs    int64              // bytes of it that the session counts
	late     *time.Timer        // ends writeCtx
	uncheck  context.CancelFunc // ends the RECHECK that runs; nil: none does
	checking bool               // RECHECK runs, or is about to
	writing  int                // chunks that have arrived and are not written yet
	arrived  uint64             // different chunks that came whole
	lastData time.Time
	chunks   map[int64]chunkState
	halves   map[*assembly]struct{} // chunks that are coming
	window   window                 // of the upload; what it counts, the session's counts too
	drained  bool                   // windows count nothing of it any more
	next     int64                  // of unknown size: the chunk that must come, -1: none may
	size     int64                  // of unknown size: bytes so far
	lone     bool                   // of unknown size: chunk 0 has the value of a whole file
}

func newServerUpload(ctx context.Context, s *serverUploads, st *stream, id uint64, m *protocol.Begin, release func()) *serverUpload {
	u := &serverUpload{
		session: s, st: st, id: id, asked: beginFromWire(m), release: release,
		gone:     make(chan struct{}),
		wake:     make(chan struct{}, 1),
		ready:    make(chan struct{}),
		chunks:   map[int64]chunkState{},
		halves:   map[*assembly]struct{}{},
		window:   window{limit: protocol.MinWindow + windowSlack},
		lastData: time.Now(),
	}
	u.changed = sync.NewCond(&u.mu)
	u.asked.Durable, u.asked.Failed = u.durable, u.fail
	ctx = context.WithoutCancel(ctx)
	u.ctx, u.stop = context.WithCancel(ctx)
	u.beginCtx, u.unbegin = context.WithCancel(u.ctx)
	u.writeCtx, u.unwrite = context.WithCancel(ctx)
	return u
}

// nudge makes run look again.
func (u *serverUpload) nudge() {
	select {
	case u.wake <- struct{}{}:
	default:
	}
}

// fail ends the upload with err, unless it has failed already.
func (u *serverUpload) fail(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.failLocked(err)
}

func (u *serverUpload) failLocked(err error) {
	if u.failure != nil || u.drained {
		return
	}
	u.failure = err
	u.stop()
	u.late = time.AfterFunc(suspendGrace, u.unwrite)
	u.shutLocked()
	u.nudge()
}

// shutLocked takes no more DATA.
func (u *serverUpload) shutLocked() {
	if u.over {
		return
	}
	u.over = true
	close(u.gone)
	u.changed.Broadcast()
	for c := range u.halves { // their streams may stay silent for long
		if !c.reading {
			c.freeLocked()
		}
	}
}

// lost suspends the upload; nobody is told.
func (u *serverUpload) lost() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.nobody = true
	u.failLocked(tree.ErrLost)
}

// run is the life of the upload.
func (u *serverUpload) run(in beginner) {
	answer := u.live(in)
	u.mu.Lock()
	nobody := u.nobody
	u.shutLocked()
	if u.late != nil {
		u.late.Stop()
	}
	u.drained = true
	u.session.window.give(u.window.used)
	u.session.attrs.give(u.attrs)
	u.end = nil
	u.mu.Unlock()
	u.stop()
	u.unwrite()
	u.session.forget(u)
	u.release()
	if !nobody {
		_ = u.st.post(u.id, answer) // where it fails the stream is gone, and with it who waits
	}
}

// live begins the upload and ends it, and returns the last answer.
func (u *serverUpload) live(in beginner) protocol.Message {
	w, err := u.begin(in)
	if err != nil {
		u.fail(err)
		close(u.ready)
		u.settle()
		return failOf(err)
	}
	u.writer = w
	if err := u.welcome(); err != nil {
		u.fail(err)
	}
	close(u.ready)
	switch m := u.wait().(type) {
	case *protocol.Commit:
		return u.commit(m)
	case *protocol.Abort:
		u.settle()
		if err := w.Abort(context.WithoutCancel(u.ctx)); err != nil {
			return failOf(err)
		}
		return &protocol.OK{}
	}
	return u.suspend()
}

// begin begins the upload in its tree.
func (u *serverUpload) begin(in beginner) (tree.Writer, error) {
	defer u.unbegin()
	if u.asked.Size >= 0 && tree.ChunkCount(u.asked.Size, u.asked.ChunkSize) > mostChunks {
		return nil, refuse(protocol.CodeTooLarge, "more than %d chunks", mostChunks)
	}
	if err := u.beginCtx.Err(); err != nil { // it must not take over who came after
		return nil, err
	}
	w, err := in.Begin(u.beginCtx, u.asked)
	if err != nil {
		return nil, err
	}
	if err := u.beginCtx.Err(); err != nil { // CANCEL, or the session has ended
		return nil, errors.Join(err, w.Suspend(context.WithoutCancel(u.ctx)))
	}
	return w, nil
}

// welcome sends BEGUN and what is durable of earlier runs.
func (u *serverUpload) welcome() error {
	begun := &protocol.Begun{Window: journalWindow, Expiry: uint32(min(u.session.expiry/time.Second, 1<<31))} //nolint:gosec // within
	if u.asked.Size < 0 {
		begun.Window = streamWindow
	}
	kept := u.keep()
	begun.Chunks = uint64(len(kept))
	if u.writer.Unchanged() {
		begun.Flags |= protocol.BegunUnchanged
	}
	u.mu.Lock()
	if u.journal {
		begun.Flags |= protocol.BegunJournal
	}
	u.mu.Unlock()
	u.window.widen(int64(begun.Window) + windowSlack) //nolint:gosec // a constant
	if err := u.st.send(u.ctx, u.id, begun); err != nil {
		return err
	}
	for len(kept) > 0 {
		n := 1
		for n < min(len(kept), protocol.MaxValues) && kept[n].index == kept[0].index+int64(n) {
			n++
		}
		have := &protocol.Have{First: uint64(kept[0].index), Values: make([]protocol.Value, n)} //nolint:gosec // not negative
		for i, k := range kept[:n] {
			have.Values[i] = protocol.Value(k.value)
		}
		if err := u.st.send(u.ctx, u.id, have); err != nil {
			return err
		}
		kept = kept[n:]
	}
	return nil
}

// wait returns when the upload is to end: what the client asked for, with all
// that this needs there, or nil after a failure.
func (u *serverUpload) wait() protocol.Message {
	silence := time.NewTimer(commitSilence)
	defer silence.Stop()
	for {
		end, again := u.look()
		if again == 0 {
			return end
		}
		silence.Reset(again)
		select {
		case <-u.wake:
		case <-silence.C:
		}
	}
}

// look returns how the upload ends, or when to look again at the latest.
func (u *serverUpload) look() (end protocol.Message, again time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if m, ok := u.end.(*protocol.Abort); ok {
		return m, 0
	}
	m, committing := u.end.(*protocol.Commit)
	switch {
	case u.failure != nil:
		return nil, 0
	case u.end != nil && !committing:
		return u.end, 0
	case !committing || u.checking:
		return nil, commitSilence
	case u.arrived >= m.Sent:
		u.shutLocked()
		if u.writing == 0 {
			return u.end, 0
		}
		return nil, commitSilence
	}
	if u.writing > 0 || u.session.share.starved() { // it is we who are slow
		u.lastData = time.Now()
	}
	again = commitSilence - time.Since(u.lastData)
	if again <= 0 {
		u.failLocked(fmt.Errorf("%w: %d of %d chunks never came", tree.ErrIntegrity, m.Sent-u.arrived, m.Sent))
		return nil, 0
	}
	return nil, again
}

// settle returns when nothing uses the writer any more. Chunks that have arrived
// are written, unless that takes too long for nobody.
func (u *serverUpload) settle() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.shutLocked()
	u.stopChecking()
	for u.writing > 0 || u.checking {
		u.changed.Wait()
	}
}

// suspend keeps what arrived, and returns the answer: OK, unless something else
// than SUSPEND was why, or something was lost.
func (u *serverUpload) suspend() protocol.Message {
	u.settle()
	err := u.writer.Suspend(context.WithoutCancel(u.ctx))
	if err != nil && !errors.Is(err, tree.ErrTakenOver) && !errors.Is(err, tree.ErrClosed) {
		u.session.log.WarnContext(u.ctx, "upload not suspended", "path", u.asked.Path.String(), "error", err)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case u.failure != nil:
		return failOf(u.failure)
	case err != nil:
		return failOf(err)
	}
	return &protocol.OK{}
}
