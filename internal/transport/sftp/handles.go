package sftp

import "sync/atomic"

// Handles bounds the files and directories that several sessions have open
// together, so that one client with many channels does not take all that the
// process may open. It is safe for concurrent use. Nil bounds nothing.
type Handles struct {
	parent *Handles
	left   atomic.Int64
}

// NewHandles returns a bound of limit (0: none) that lies within parent, which
// may be nil.
func NewHandles(limit int, parent *Handles) *Handles {
	if limit <= 0 {
		return parent
	}
	h := &Handles{parent: parent}
	h.left.Store(int64(limit))
	return h
}

// take counts one more, if that is allowed; give undoes it.
func (h *Handles) take() bool {
	if h == nil {
		return true
	}
	if h.left.Add(-1) < 0 || !h.parent.take() {
		h.left.Add(1)
		return false
	}
	return true
}

func (h *Handles) give() {
	for ; h != nil; h = h.parent {
		h.left.Add(1)
	}
}
