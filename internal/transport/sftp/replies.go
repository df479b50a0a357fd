package sftp

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync"
)

// maxHeld is how much of replies waits for the next one: many WRITEs that
// arrived together are answered together.
const maxHeld = 16 << 10

// replies is the way to the client: whole packets, whoever sends them. A client
// that has gone is answered no more, but what it sent before is still read and
// done; reading ends the session.
type replies struct {
	// config
	w io.Writer

	part []byte // the beginning of a reply of RequestServer, whose writes do not overlap

	mu   sync.Mutex
	held builder // whole replies that are not sent yet
	err  error   // sticky
}

// send adds a reply that build builds. It is sent when the client is waited
// for.
func (r *replies) send(build func(w *builder)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	build(&r.held)
	if len(r.held.b) > maxHeld {
		r.flushLocked()
	}
}

// status adds the STATUS that tells of err, success included.
func (r *replies) status(id uint32, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held.status(id, statusOf(err))
	if len(r.held.b) > maxHeld {
		r.flushLocked()
	}
}

// relay takes a piece of what RequestServer writes, one goroutine at a time. A
// reply that it makes whole is shown to note, and then sent in one Write with
// all that is held.
func (r *replies) relay(p []byte, note func(packet)) {
	if !isFrame(r.part, p) {
		r.part = append(r.part, p...)
		return
	}
	switch {
	case len(r.part) == 0:
		note(packet(p[4:]))
	case len(r.part) > 4 && packet(r.part[4:]).kind() == typeData:
		note(packet(r.part[4:])) // no need to look at the data
	default:
		r.part = append(r.part, p...)
		p = nil
		note(packet(r.part[4:]))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held.b = append(append(r.held.b, r.part...), p...)
	r.part = r.part[:0]
	r.flushLocked()
}

// isFrame reports whether a and b are a packet together.
func isFrame(a, b []byte) bool {
	var head [4]byte
	n := copy(head[:], a)
	n += copy(head[n:], b)
	return n == 4 && len(a)+len(b) >= 5 && uint64(binary.BigEndian.Uint32(head[:]))+4 == uint64(len(a)+len(b))
}

// flush sends what is held.
func (r *replies) flush() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flushLocked()
}

func (r *replies) flushLocked() {
	if len(r.held.b) == 0 {
		return
	}
	if r.err == nil {
		if _, err := r.w.Write(r.held.b); err != nil {
			r.err = fmt.Errorf("answer sftp client: %w", err)
		}
	}
	r.held.reset()
}

// failure returns why the client can no longer be answered.
func (r *replies) failure() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}
