package sftp

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/pkg/sftp"

	"transferd/internal/tree"
)

// A plainWriter is the stream that pkg/sftp writes its packets to. They arrive
// in pieces and are put among the lane's own as whole ones.
type plainWriter struct {
	l   *lane
	buf []byte
}

func (w *plainWriter) Write(p []byte) (int, error) {
	w.buf = append(w.buf, p...)
	for len(w.buf) >= 4 {
		size := int(binary.BigEndian.Uint32(w.buf)) + 4
		if len(w.buf) < size {
			break
		}
		packet := query(append([]byte(nil), w.buf[:size]...))
		w.buf = append(w.buf[:0], w.buf[size:]...)
		if err := w.l.cause(); err != nil {
			return 0, err
		}
		w.l.out.force(packet) // small, and one for each waiting caller
	}
	return len(p), nil
}

// Close is called when pkg/sftp gives up, for then nobody would read what is
// fed to it.
func (w *plainWriter) Close() error {
	w.l.fail(fmt.Errorf("%w: %w", tree.ErrLost, errBadPacket))
	return nil
}

// ask runs one plain operation of pkg/sftp, which has no context of its own:
// when ctx ends first, the operation goes on until its answer, unseen.
func ask[T any](ctx context.Context, l *lane, op func(*sftp.Client) (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	var none T
	got := make(chan answer, 1)
	if !l.enter(func() {
		l.load.Add(requestWeight)
		v, err := op(l.plain)
		l.load.Add(-requestWeight)
		got <- answer{v, err}
	}) {
		return none, l.cause()
	}
	select {
	case a := <-got:
		if a.err == nil {
			return a.value, nil
		}
		if cause := l.cause(); cause != nil {
			return a.value, cause
		}
		return a.value, fromPlain(a.err)
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

// tell is ask for an operation that answers with nothing but success.
func tell(ctx context.Context, l *lane, op func(*sftp.Client) error) error {
	_, err := ask(ctx, l, func(c *sftp.Client) (struct{}, error) { return struct{}{}, op(c) })
	return err
}
