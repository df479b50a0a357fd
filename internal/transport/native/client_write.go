package native

import (
	"context"
	"errors"
	"math"

	"transferd/protocol"
)

// writeSize is the most that a WRITE carries, writesAtOnce how many one WriteAt
// has open.
const (
	writeSize    = 256 << 10
	writesAtOnce = 16
)

// A writing is the op of a WRITE.
type writing struct {
	call

	s    *clientSession
	room int64 // of the window
	id   uint64
}

func (w *writing) ended(err error) {
	w.s.room.Release(w.room)
	w.call.ended(err)
}

// WriteAt implements io.WriterAt. All that one call writes goes to the server
// without anything of another call between it.
func (f *openFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.use("write"); err != nil {
		return 0, err
	}
	if off < 0 || int64(len(p)) > math.MaxInt64-off {
		return 0, failed("write", f.name, errors.New("no such place in a file"))
	}
	f.touched.Store(true)
	f.written.Store(true)
	f.writing.Lock()
	defer f.writing.Unlock()
	size := min(writeSize, int(f.s.hello.MaxData))
	var (
		open []*writing
		n    int // bytes that the server has answered for
		err  error
	)
	settle := func() {
		switch late := open[0].answer(); {
		case err != nil: // the first one counts
		case late != nil:
			err = late
		default:
			n += int(open[0].room)
		}
		open = open[1:]
	}
	for sent := 0; err == nil && sent < len(p); {
		if len(open) == writesAtOnce {
			settle()
			continue
		}
		part := p[sent:min(len(p), sent+size)]
		var w *writing
		if w, err = f.write(part, off+int64(sent)); err == nil {
			open = append(open, w)
			sent += len(part)
		}
	}
	for len(open) > 0 {
		settle()
	}
	return n, failed("write", f.name, err)
}

// write sends one WRITE. It waits for room in the window, but not for the answer.
func (f *openFile) write(p []byte, off int64) (*writing, error) {
	ctx := context.Background() // io.WriterAt has none; a lost stream ends the waiting
	w := &writing{s: f.s, room: int64(len(p))}
	w.want, w.done = protocol.TypeOK, make(chan struct{}, 1)
	if err := f.s.room.Acquire(ctx, w.room); err != nil {
		return nil, err
	}
	var err error
	w.id, err = f.s.control.start(ctx, w, &protocol.Write{Handle: f.handle, Offset: off, Data: p})
	if err != nil {
		f.s.room.Release(w.room)
		return nil, err
	}
	return w, nil
}

// answer waits for the server's.
func (w *writing) answer() error {
	<-w.done
	if fail, ok := w.msg.(*protocol.Fail); ok && w.err == nil {
		return &failError{fail}
	}
	return w.err
}
