package native

import (
	"errors"
	"fmt"
	"slices"

	"transferd/internal/tree"
	"transferd/protocol"
)

// A phase is how far a chunk has come.
type phase uint8

const (
	phaseNone    phase = iota
	phaseKept          // of an earlier run: durable, and told by HAVE
	phaseWriting       // came whole in this run, and is being written
	phaseWritten       // WriteChunk has returned
	phaseDurable       // and it is recorded
)

// A chunkState is what an upload knows of one chunk.
type chunkState struct {
	value   tree.Value
	phase   phase
	coming  int32 // copies of it that are coming, or have and are not claimed
	counted int64 // bytes of it that the windows count

	// Copies of it that came whole, and of these the ones that were claimed: in
	// the order of their coming, so that the last one stays.
	whole, claimed int32
}

// A kept is a chunk of an earlier run.
type kept struct {
	index int64
	value tree.Value
}

// keep takes over what earlier runs made durable, and returns it in order.
func (u *serverUpload) keep() []kept {
	var list []kept
	for i, v := range u.writer.Have() {
		if v != (tree.Value{}) {
			list = append(list, kept{i, v})
		}
	}
	slices.SortFunc(list, func(a, b kept) int { return int(a.index - b.index) })
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, k := range list {
		st := u.chunks[k.index]
		if st.phase == phaseNone { // chunks may have come before BEGUN went
			st.phase, st.value = phaseKept, k.value
			u.chunks[k.index] = st
		}
	}
	return list
}

// drop forgets a chunk of an earlier run that turned out bad.
func (u *serverUpload) drop(i int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if st := u.chunks[i]; st.phase == phaseKept {
		st.phase, st.value = phaseNone, tree.Value{}
		u.put(i, st)
	}
}

// put stores the state of chunk i. The caller holds mu.
func (u *serverUpload) put(i int64, st chunkState) {
	if st == (chunkState{}) {
		delete(u.chunks, i)
		return
	}
	u.chunks[i] = st
}

// countLocked counts that of chunk i, on some stream, the first n bytes have
// come. A chunk that comes on several streams counts once.
func (u *serverUpload) countLocked(i, n int64) error {
	st := u.chunks[i]
	more := n - st.counted
	if more <= 0 {
		return nil
	}
	if !u.window.take(more) {
		return refuse(protocol.CodeWindow, "more was sent than the window of the upload allows")
	}
	if !u.session.window.take(more) {
		u.window.give(more)
		return refuse(protocol.CodeWindow, "more was sent than the window of the session allows")
	}
	st.counted = n
	u.chunks[i] = st
	return nil
}

// uncount takes chunk i out of the windows. The caller holds mu, and stores st.
func (u *serverUpload) uncount(st *chunkState) {
	if u.drained {
		return
	}
	u.window.give(st.counted)
	u.session.window.give(st.counted)
	st.counted = 0
}

// came takes a whole chunk, and writes it in a goroutine of its own. The memory
// of c belongs to that.
func (u *serverUpload) came(c *assembly) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.halves, c)
	if u.over {
		c.freeLocked()
		u.leftLocked(c.index)
		return
	}
	if u.asked.Size < 0 {
		u.size += c.filled
		u.next++
		if c.filled < u.asked.ChunkSize {
			u.next = -1 // nothing comes behind a short one
		}
	}
	u.writing++
	st := u.chunks[c.index]
	c.place = st.whole
	st.whole++
	u.chunks[c.index] = st
	u.session.group.Go(func() {
		err := u.write(c)
		u.session.share.put(c.buf)
		u.mu.Lock()
		defer u.mu.Unlock()
		u.leftLocked(c.index)
		if err != nil {
			u.failLocked(err)
		}
		u.writing--
		u.changed.Broadcast()
		u.nudge()
	})
}

// leftLocked takes note that a copy of chunk i, whole or not, comes no more.
func (u *serverUpload) leftLocked(i int64) {
	st := u.chunks[i]
	st.coming--
	if st.coming == 0 && st.phase < phaseWriting {
		u.uncount(&st)
	}
	u.put(i, st)
}

// errLeft is a chunk that is not written since its upload ends. It is never seen.
var errLeft = errors.New("the upload has ended")

// write hashes a chunk and writes it.
func (u *serverUpload) write(c *assembly) error {
	if err := u.check(c); err != nil {
		return err
	}
	<-u.ready
	if u.writer == nil {
		return errLeft
	}
	first, err := u.claim(c)
	if err != nil || !first {
		return err
	}
	chunk := tree.Chunk{Index: c.index, Data: c.buf[:c.filled], Value: c.value}
	if c.holes {
		chunk.Extents = c.extents
	}
	if err := u.writer.WriteChunk(u.writeCtx, chunk); err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	st := u.chunks[c.index]
	if st.phase == phaseWriting {
		st.phase = phaseWritten
		u.chunks[c.index] = st
	}
	if u.volatileLocked() {
		u.ack(true, []int64{c.index})
	}
	u.changed.Broadcast()
	return nil
}

// check compares the value that the client says with that of the bytes.
func (u *serverUpload) check(c *assembly) error {
	data := c.buf[:c.filled]
	whole := u.asked.Size >= 0 && u.asked.Size <= u.asked.ChunkSize
	got := tree.ChunkValue(data, c.index, u.asked.ChunkSize, whole)
	if got == c.value {
		return nil
	}
	// Whether the first chunk of unknown size is the only one, its sender knew.
	if u.asked.Size < 0 && c.index == 0 && tree.ChunkValue(data, 0, u.asked.ChunkSize, true) == c.value {
		u.mu.Lock()
		u.lone = true
		u.mu.Unlock()
		return nil
	}
	return fmt.Errorf("%w: chunk %d arrived with the value %v, not %v", tree.ErrIntegrity, c.index, tree.Digest(got), tree.Digest(c.value))
}

// claim marks a chunk as being written. It is not first if the same bytes were
// written already, or are being. Others are waited for: a chunk must not be told
// to be durable while another takes its place.
func (u *serverUpload) claim(c *assembly) (first bool, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for u.chunks[c.index].claimed != c.place {
		if u.failure != nil {
			return false, errLeft
		}
		u.changed.Wait()
	}
	defer func() {
		st := u.chunks[c.index]
		st.claimed++
		u.chunks[c.index] = st
		u.changed.Broadcast()
	}()
	for {
		st := u.chunks[c.index]
		mine := st.phase >= phaseWriting
		switch {
		case mine && st.value == c.value:
			if st.phase == phaseDurable || (st.phase == phaseWritten && u.volatileLocked()) {
				u.ack(st.phase != phaseDurable, []int64{c.index})
			}
			return false, nil
		case st.phase == phaseWriting, st.phase == phaseWritten && !u.volatileLocked():
			if u.failure != nil {
				return false, errLeft
			}
			u.changed.Wait()
			continue
		case !mine:
			u.arrived++
		}
		st.value, st.phase = c.value, phaseWriting
		u.chunks[c.index] = st
		u.nudge()
		return true, nil
	}
}

// volatileLocked reports whether acknowledgements promise nothing.
func (u *serverUpload) volatileLocked() bool {
	return !u.journal || u.asked.Fsync == tree.FsyncOff
}

// durable is the upload's Durable: it hears what may be acknowledged, and by an
// empty list, before Begin returns, that it will.
func (u *serverUpload) durable(chunks []int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(chunks) == 0 {
		u.journal = true
	}
	if len(chunks) == 0 || u.volatileLocked() {
		return
	}
	if u.drained { // taken over, and what it had is recorded behind its last answer
		return
	}
	list := make([]int64, 0, len(chunks))
	for _, i := range chunks {
		st := u.chunks[i]
		if st.phase != phaseWriting && st.phase != phaseWritten {
			continue
		}
		st.phase = phaseDurable
		u.chunks[i] = st
		list = append(list, i)
	}
	u.ack(false, list)
	u.changed.Broadcast()
}

// ack acknowledges chunks. The caller holds mu, and does not use the list again.
func (u *serverUpload) ack(volatile bool, list []int64) {
	slices.Sort(list)
	m := &protocol.Ack{Volatile: volatile}
	send := func() {
		if len(m.Ranges) > 0 {
			_ = u.st.post(u.id, m) // where it fails the stream is gone, and who waits with it
		}
		m = &protocol.Ack{Volatile: volatile}
	}
	for _, i := range list {
		st := u.chunks[i]
		u.uncount(&st)
		u.chunks[i] = st
		if n := len(m.Ranges); n > 0 && m.Ranges[n-1].First+m.Ranges[n-1].Count == uint64(i) { //nolint:gosec // not negative
			m.Ranges[n-1].Count++
			continue
		}
		if len(m.Ranges) == protocol.MaxExtents {
			send()
		}
		m.Ranges = append(m.Ranges, protocol.Range{First: uint64(i), Count: 1}) //nolint:gosec // not negative
	}
	send()
}
