package native

import (
	"context"
	"sync"

	"transferd/protocol"
)

// A call is an op that has one answer, and somebody who waits for it.
type call struct {
	want protocol.Type
	done chan struct{} // has one token when it has ended
	msg  protocol.Message
	err  error
}

// calls keeps the calls that can be used again: those whose end was seen.
type calls struct{ pool sync.Pool }

func (c *calls) get(want protocol.Type) *call {
	if k, ok := c.pool.Get().(*call); ok {
		k.want = want
		return k
	}
	return &call{want: want, done: make(chan struct{}, 1)}
}

func (c *calls) put(k *call) {
	k.msg, k.err = nil, nil
	c.pool.Put(k)
}

func (k *call) take(_ *lane, f *frame) (bool, error) {
	if f.Type != k.want && f.Type != protocol.TypeFail {
		return true, violation(f.Type)
	}
	k.msg = f.Message
	return true, nil
}

func (k *call) ended(err error) {
	k.err = err
	k.done <- struct{}{}
}

// do sends a request that has one answer, of type want, and waits for it. An
// answer that is FAIL is the error.
func (l *lane) do(ctx context.Context, m protocol.Message, want protocol.Type) (protocol.Message, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	k := l.sess.c.calls.get(want)
	id, err := l.start(ctx, k, m)
	if err != nil {
		l.sess.c.calls.put(k)
		return nil, err
	}
	return l.wait(ctx, k, id)
}

// wait waits for the answer to k, which start has begun as id.
func (l *lane) wait(ctx context.Context, k *call, id uint64) (protocol.Message, error) {
	select {
	case <-k.done:
	case <-ctx.Done():
		l.cancel(id)
		return nil, ctx.Err() // what comes finds the call, and nobody waits
	}
	msg, err := k.msg, k.err
	l.sess.c.calls.put(k)
	if err != nil {
		return nil, err
	}
	if fail, ok := msg.(*protocol.Fail); ok {
		return nil, &failError{fail}
	}
	return msg, nil
}

// A failError is FAIL on its way to the one who knows what it is about.
type failError struct{ *protocol.Fail }

func (e *failError) Error() string { return e.Message }
