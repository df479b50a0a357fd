package sftp

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
)

// readAnswer takes one packet off the channel and gives it to whoever asked.
func (l *lane) readAnswer(r *bufio.Reader) error {
	head, err := r.Peek(headerSize)
	if err != nil {
		return err
	}
	n, kind, id := binary.BigEndian.Uint32(head), packetType(head[4]), binary.BigEndian.Uint32(head[5:])
	if n < 5 || n > maxPacket {
		return fmt.Errorf("%w: a packet of %d bytes", errBadPacket, n)
	}
	if id&ownID == 0 {
		return l.forward(r, int(n)+4)
	}
	l.mu.Lock()
	c := l.pending[id]
	l.mu.Unlock()
	if c == nil {
		return fmt.Errorf("%w: an answer that nobody asked for", errBadPacket)
	}
	if _, err := r.Discard(headerSize); err != nil {
		return err
	}
	c.kind = kind
	if err := c.take(r, int(n)-5); err != nil {
		return err
	}
	// It stays among the pending ones until it is complete, so that a lane
	// which breaks in the middle still finishes it.
	l.mu.Lock()
	_, mine := l.pending[id]
	delete(l.pending, id)
	l.mu.Unlock()
	if mine {
		l.load.Add(-c.weight)
		l.deliver(c)
	}
	return nil
}

// deliver finishes a call, or lets its orphan hook see what came too late.
func (l *lane) deliver(c *call) {
	c.mu.Lock()
	abandoned := c.abandoned
	if !abandoned {
		c.finish()
	}
	c.mu.Unlock()
	if abandoned && c.orphan != nil && c.err == nil {
		c.orphan(c)
	}
}

// forward hands a packet of size bytes to pkg/sftp.
func (l *lane) forward(r *bufio.Reader, size int) error {
	p := make([]byte, size)
	if _, err := io.ReadFull(r, p); err != nil {
		return err
	}
	_, err := l.feed.Write(p)
	return err
}

// take reads an answer of n bytes behind its id.
func (c *call) take(r *bufio.Reader, n int) error {
	if c.kind != typeData || c.dst == nil {
		body := make([]byte, n)
		if _, err := io.ReadFull(r, body); err != nil {
			return err
		}
		c.body = body
		return nil
	}
	if n < 4 {
		return fmt.Errorf("%w: short data", errBadPacket)
	}
	head, err := r.Peek(4)
	if err != nil {
		return err
	}
	data := int64(binary.BigEndian.Uint32(head))
	if data > int64(n-4) || data > int64(len(c.dst)) {
		return fmt.Errorf("%w: more data than was asked for", errBadPacket)
	}
	if _, err := r.Discard(4); err != nil {
		return err
	}
	for done := 0; done < int(data); {
		// Waiting for bytes and copying them are two steps, so that dst is
		// touched only while c.mu is held and never after the call was abandoned.
		if _, err := r.Peek(1); err != nil {
			return err
		}
		buf, err := r.Peek(min(r.Buffered(), int(data)-done))
		if err != nil {
			return err
		}
		c.mu.Lock()
		if !c.abandoned {
			copy(c.dst[done:], buf)
		}
		c.mu.Unlock()
		done += len(buf)
		if _, err := r.Discard(len(buf)); err != nil {
			return err
		}
	}
	c.n = int(data)
	_, err = r.Discard(n - 4 - int(data))
	return err
}
