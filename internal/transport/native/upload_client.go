package native

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"sync"

	"golang.org/x/sync/semaphore"

	"transferd/internal/tree"
	"transferd/protocol"
)

// An upload is the client's end of one upload: an op that takes many messages,
// and a tree.Writer.
type upload struct {
	sess *clientSession
	lane *lane  // that BEGIN went on, and answers come on
	id   uint64 // of BEGIN
	u    tree.Upload
	name string // of u.Path, for errors
	dir  uint32
	room *semaphore.Weighted // bytes of the window of BEGUN; good behind begun
	zip  squeeze

	begun chan struct{} // closed when all of HAVE is there
	over  chan struct{} // closed behind the last answer, or when there will be none
	ruin  chan struct{} // closed when chunks are known to be lost, and with over

	mu      sync.Mutex
	flags   protocol.BegunFlags
	started bool            // BEGUN was there
	missing uint64          // chunks of HAVE that are still to come
	have    []protocol.Have // ascending once begun is closed
	flying  map[int64]*flight
	next    int64            // where the size is not known, the chunk that may go
	moved   chan struct{}    // closed when next changes
	sent    bitmap           // chunks that were sent
	ending  protocol.Type    // COMMIT, SUSPEND or ABORT, once it was sent
	recheck recheck          // the one that is running
	last    protocol.Message // the last answer
	err     error            // why there is none
	done    bool             // over is closed, or about to be
	why     error            // why ruin is closed
}

// A flight is a chunk that was sent, or is being sent, and is not acknowledged.
type flight struct {
	bytes  int64
	lane   *lane
	whole  bool          // its last byte is on its way, so that it may be acknowledged
	again  bool          // it was whole before, and the first of two ACK may still come
	handed bool          // WriteChunk has returned: nobody could send it again
	gone   chan struct{} // closed when it is no longer under way
}

// uploads are those of a session that are open.
type uploads struct {
	mu   sync.Mutex
	open map[*upload]struct{}
}

func (a *uploads) add(u *upload) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.open == nil {
		a.open = map[*upload]struct{}{}
	}
	a.open[u] = struct{}{}
}

func (a *uploads) remove(u *upload) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.open, u)
}

// left tells all uploads that l has ended with err.
func (a *uploads) left(l *lane, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for u := range a.open {
		u.left(l, err)
	}
}

// Begin implements tree.Sink.
func (b *branch) Begin(ctx context.Context, u tree.Upload) (tree.Writer, error) {
	sess, dir, err := b.at(ctx)
	if err != nil {
		return nil, failed("begin", b.name(u.Path), err)
	}
	w, err := sess.startUpload(ctx, u, dir)
	if err != nil {
		return nil, failed("begin", b.name(u.Path), err)
	}
	w.name = b.name(u.Path)
	return w, nil
}

// startUpload sends BEGIN and waits for what the server has.
func (s *clientSession) startUpload(ctx context.Context, u tree.Upload, dir uint32) (*upload, error) {
	if c := u.ChunkSize; c < protocol.MinChunk || c > protocol.MaxChunk || c&(c-1) != 0 {
		return nil, fmt.Errorf("chunks of %d bytes", c)
	}
	if err := s.long.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	w := &upload{
		sess:   s,
		lane:   s.control, // a joined stream would be one more that can be lost
		u:      u,
		dir:    dir,
		begun:  make(chan struct{}),
		over:   make(chan struct{}),
		flying: map[int64]*flight{},
		moved:  make(chan struct{}),
		ruin:   make(chan struct{}),
	}
	if u.Size < 0 || u.InPlace {
		w.lane = s.first() // all goes this way
	}
	s.uploads.add(w)
	var err error
	if w.id, err = w.lane.start(ctx, w, beginToWire(u, dir)); err != nil {
		s.uploads.remove(w)
		s.long.Release(1)
		return nil, err
	}
	select {
	case <-w.begun:
		if w.flags&protocol.BegunJournal != 0 && u.Durable != nil {
			u.Durable(nil)
		}
		return w, nil
	case <-w.over:
		return nil, w.outcome()
	case <-ctx.Done():
		_ = w.finish(&protocol.Suspend{}) // what comes finds the upload, and nobody waits
		return nil, ctx.Err()
	}
}

// take implements op.
func (w *upload) take(l *lane, f *frame) (bool, error) {
	if l != w.lane {
		return false, violation(f.Type)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch m := f.Message.(type) {
	case *protocol.Begun:
		return false, w.takeBegun(m)
	case *protocol.Have:
		return false, w.takeHave(m)
	case *protocol.Ack:
		return false, w.takeAck(m)
	case *protocol.Bad:
		return false, w.takeBad(m)
	case *protocol.Fail:
		w.last = m
		return true, nil
	case *protocol.Committed:
		if w.ending == protocol.TypeCommit {
			w.last = m
			return true, nil
		}
	case *protocol.OK:
		if w.ending == protocol.TypeSuspend || w.ending == protocol.TypeAbort {
			w.last = m
			return true, nil
		}
	}
	return false, violation(f.Type)
}

func (w *upload) takeBegun(m *protocol.Begun) error {
	switch {
	case w.started:
		return violation(protocol.TypeBegun)
	case m.Chunks > w.chunks():
		return &protocol.Error{Code: protocol.CodeBadMessage, Type: protocol.TypeBegun, Field: "chunks"}
	}
	w.started = true
	w.flags = m.Flags
	w.missing = m.Chunks
	w.room = semaphore.NewWeighted(int64(min(m.Window, math.MaxInt64)))
	if w.missing == 0 {
		close(w.begun)
	}
	return nil
}

// chunks is how many chunks earlier runs can have left.
func (w *upload) chunks() uint64 {
	if w.u.Size < 0 {
		return 0
	}
	return uint64(tree.ChunkCount(w.u.Size, w.u.ChunkSize)) //nolint:gosec // at least one
}

func (w *upload) takeHave(m *protocol.Have) error {
	n := uint64(len(m.Values))
	if n == 0 || n > w.missing || m.First+n > w.chunks() || slices.Contains(m.Values, protocol.Value{}) {
		return &protocol.Error{Code: protocol.CodeBadMessage, Type: protocol.TypeHave, Field: "values"}
	}
	w.have = append(w.have, *m)
	if w.missing -= n; w.missing > 0 {
		return nil
	}
	slices.SortFunc(w.have, func(a, b protocol.Have) int { return cmp.Compare(a.First, b.First) })
	for i := 1; i < len(w.have); i++ {
		if before := w.have[i-1]; before.First+uint64(len(before.Values)) > w.have[i].First {
			return &protocol.Error{Code: protocol.CodeBadMessage, Type: protocol.TypeHave, Field: "first"}
		}
	}
	close(w.begun)
	return nil
}

// takeAck frees what was acknowledged, and tells who wants to know it. Chunks
// that are not under way may have been sent twice: their second ACK says nothing.
func (w *upload) takeAck(m *protocol.Ack) error {
	var durable []int64
	for _, r := range m.Ranges {
		first, end := int64(r.First), int64(r.First+r.Count) //nolint:gosec // at most MaxChunks
		if r.Count <= uint64(len(w.flying)) {
			for i := first; i < end; i++ {
				if x, ok := w.flying[i]; ok {
					if !w.land(i, x) {
						return violation(protocol.TypeAck)
					}
					durable = append(durable, i)
				}
			}
			continue
		}
		for i, x := range w.flying {
			if i >= first && i < end {
				if !w.land(i, x) {
					return violation(protocol.TypeAck)
				}
				durable = append(durable, i)
			}
		}
	}
	if w.u.Durable != nil && !m.Volatile && len(durable) > 0 {
		slices.Sort(durable)
		w.u.Durable(durable)
	}
	return nil
}

// land takes a chunk off those under way, and reports whether it could be: what
// was not sent cannot have arrived. Of a chunk that was sent twice, because its
// stream was lost, the window is free when the second is acknowledged.
func (w *upload) land(index int64, x *flight) bool {
	if x.whole {
		w.drop(index, x)
	}
	return x.whole || x.again
}

// drop forgets a chunk and gives its part of the windows back. The caller holds mu.
func (w *upload) drop(index int64, x *flight) {
	delete(w.flying, index)
	close(x.gone)
	w.room.Release(x.bytes)
	w.sess.room.Release(x.bytes)
}

// ended implements op.
func (w *upload) ended(err error) {
	w.sess.uploads.remove(w)
	w.mu.Lock()
	w.err, w.done = err, true
	for i, x := range w.flying {
		if x.handed { // who is still sending gives back by itself
			w.drop(i, x)
		}
	}
	close(w.over)
	w.spoil(errUploadEnded)
	w.mu.Unlock()
	w.sess.long.Release(1)
}

// spoil says that nothing more can come of the upload. The caller holds mu.
func (w *upload) spoil(err error) {
	if w.why == nil {
		w.why = err
		close(w.ruin)
	}
}

// left is told that l has ended. Chunks that went that way and were not
// acknowledged are gone; who still has them sends them again on another.
func (w *upload) left(l *lane, err error) {
	if l == w.lane {
		return // ended is told as well
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, x := range w.flying {
		if x.lane == l && x.handed {
			w.spoil(err)
		}
	}
}

// Have implements tree.Writer.
func (w *upload) Have() iter.Seq2[int64, tree.Value] {
	return func(yield func(int64, tree.Value) bool) {
		for _, run := range w.have { // complete, and nobody changes it
			for i, v := range run.Values {
				if !yield(int64(run.First)+int64(i), tree.Value(v)) { //nolint:gosec // at most MaxChunks
					return
				}
			}
		}
	}
}

// Unchanged implements tree.Writer.
func (w *upload) Unchanged() bool { return w.flags&protocol.BegunUnchanged != 0 }

// outcome is why an upload that is over did not do what it should; nil if it did.
func (w *upload) outcome() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	if fail, ok := w.last.(*protocol.Fail); ok {
		return &failError{fail}
	}
	return nil
}

// errUploadEnded is what an upload that has been ended answers.
var errUploadEnded = errors.New("the upload has been ended")
