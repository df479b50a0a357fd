package native

import (
	"context"
	"errors"
	"sync"

	"transferd/internal/tree"
	"transferd/protocol"
)

// spill is how many bytes wait for the first stream before a small file takes
// another one: on one stream they share records, writes and groups.
const spill = 1 << 20

// A put is a PUT that waits for its answer.
type put struct {
	lane *lane
	n    int64
	done chan struct{} // has one token when it has ended
	msg  protocol.Message
	err  error
}

// puts keeps those that can be used again.
type puts struct{ pool sync.Pool }

func (a *puts) get(l *lane, n int64) *put {
	p, ok := a.pool.Get().(*put)
	if !ok {
		p = &put{done: make(chan struct{}, 1)}
	}
	p.lane, p.n = l, n
	return p
}

func (a *puts) put(p *put) {
	p.lane, p.msg, p.err = nil, nil, nil
	a.pool.Put(p)
}

// take implements op.
func (p *put) take(_ *lane, f *frame) (bool, error) {
	if f.Type != protocol.TypeCommitted && f.Type != protocol.TypeFail {
		return false, violation(f.Type)
	}
	p.msg = f.Message
	return true, nil
}

// ended implements op. What the window holds is free only now, also when nobody
// waits any more.
func (p *put) ended(err error) {
	p.lane.load.Add(-p.n)
	p.lane.sess.room.Release(p.n)
	p.err = err
	p.done <- struct{}{}
}

// PutLimit implements tree.Putter.
func (b *branch) PutLimit(ctx context.Context) (int64, error) {
	s, err := b.c.session(ctx)
	if err != nil {
		return 0, err
	}
	return int64(min(s.welcome.Inline, protocol.MaxInline)), nil
}

// Put implements tree.Putter.
func (b *branch) Put(ctx context.Context, f tree.Small) (tree.Receipt, error) {
	s, dir, err := b.at(ctx)
	if err != nil {
		return tree.Receipt{}, failed("write", b.name(f.Path), err)
	}
	if len(f.Data) > int(min(s.welcome.Inline, protocol.MaxInline)) {
		return tree.Receipt{}, failed("write", b.name(f.Path), errors.ErrUnsupported)
	}
	r, err := s.put(ctx, f, dir)
	return r, failed("write", b.name(f.Path), err)
}

func (s *clientSession) put(ctx context.Context, f tree.Small, dir uint32) (tree.Receipt, error) {
	m := putToWire(f, dir)
	if s.compresses() {
		// Thousands may wait here: none of them holds more than its file is long.
		if packed, ok := s.c.small.pack(&s.c.payloads, make([]byte, 0, len(f.Data)), f.Data); ok {
			m.Encoding, m.Data = protocol.EncodingZstd, packed
		}
	}
	n := int64(len(f.Data))
	if err := s.room.Acquire(ctx, n); err != nil {
		return tree.Receipt{}, err
	}
	l := s.first()
	if l.load.Load() > spill {
		l = s.pick(n)
	} else {
		l.load.Add(n)
	}
	p := s.c.puts.get(l, n)
	id, err := l.start(ctx, p, m)
	if err != nil {
		l.load.Add(-n)
		s.room.Release(n)
		return tree.Receipt{}, err
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		l.cancel(id)
		return tree.Receipt{}, ctx.Err() // what comes finds p
	}
	msg, err := p.msg, p.err
	s.c.puts.put(p)
	if err != nil {
		return tree.Receipt{}, err
	}
	switch m := msg.(type) {
	case *protocol.Committed:
		return receiptFromWire(m), nil
	case *protocol.Fail:
		return tree.Receipt{}, &failError{m}
	}
	return tree.Receipt{}, errUploadEnded
}
