package sftp

import (
	"context"
	"fmt"
	"sync"
)

// A call is one request on its way and what came of it. The fields of the
// answer are valid once done has been received from, or in then.
type call struct {
	dst    []byte      // where the data of a READ goes; nil: into body
	weight int64       // what it adds to the load of its lane
	then   func(*call) // instead of done: runs on the lane's reader, must not block
	orphan func(*call) // what becomes of an answer that nobody waits for any more
	done   chan struct{}

	kind packetType
	body []byte // the answer behind its id; empty where dst was filled
	n    int    // bytes in dst
	err  error  // the lane broke

	mu        sync.Mutex
	abandoned bool // nobody waits; dst belongs to its owner again
}

// newCall returns a call that somebody will wait for.
func newCall() *call { return &call{done: make(chan struct{}), weight: requestWeight} }

// requestWeight is the load of a request without data, in bytes that a server
// could have moved in the same time.
const requestWeight = 16 << 10

// maxHandle is the longest handle there can be: draft-02, section 6.3.
const maxHandle = 256

func (c *call) finish() {
	if c.then != nil {
		c.then(c)
		return
	}
	close(c.done)
}

// wait returns when the answer is there, with the error that the lane broke
// of. When ctx ends first, the answer will be dropped.
func (c *call) wait(ctx context.Context) error {
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.done: // it came just now, and may hold a handle that must be closed
		return c.err
	default:
	}
	c.abandoned = true
	return ctx.Err()
}

// status returns what an answer of type STATUS stands for, or an error that
// says that the answer is of no type that it could have.
func (c *call) status() error {
	if c.err != nil {
		return c.err
	}
	if c.kind != typeStatus {
		return fmt.Errorf("%w: an answer of type %d", errBadPacket, c.kind)
	}
	r := cursor{b: c.body}
	s := r.status()
	if r.err != nil {
		return r.err
	}
	return errorOf(s)
}

// as returns a cursor on the answer if it is of type t, else the error that it
// stands for.
func (c *call) as(t packetType) (cursor, error) {
	if c.err == nil && c.kind == t {
		return cursor{b: c.body}, nil
	}
	if err := c.status(); err != nil {
		return cursor{}, err
	}
	return cursor{}, fmt.Errorf("%w: OK where an answer of type %d belongs", errBadPacket, t)
}

// handle returns the handle that the answer holds.
func (c *call) handle() (string, error) {
	r, err := c.as(typeHandle)
	if err != nil {
		return "", err
	}
	h := r.text()
	if r.err == nil && len(h) > maxHandle {
		r.err = fmt.Errorf("%w: a handle of %d bytes", errBadPacket, len(h))
	}
	return h, r.err
}

// attrs returns the attributes that the answer holds.
func (c *call) attrs() (attrs, error) {
	r, err := c.as(typeAttrs)
	if err != nil {
		return attrs{}, err
	}
	a := r.attrs()
	return a, r.err
}

// data returns how many bytes a READ put into dst; io.EOF at the end of file.
func (c *call) data() (int, error) {
	if c.err == nil && c.kind == typeData && c.n == 0 {
		return 0, fmt.Errorf("%w: no data in data", errBadPacket)
	}
	if c.err == nil && c.kind == typeData {
		return c.n, nil
	}
	if err := c.status(); err != nil {
		return 0, err
	}
	return 0, fmt.Errorf("%w: OK where data belongs", errBadPacket)
}
