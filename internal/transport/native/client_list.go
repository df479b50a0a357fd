package native

import (
	"context"
	"iter"
	"sync"

	"transferd/internal/tree"
	"transferd/protocol"
)

// listAhead is how many LISTED may wait for whoever ranges over a List: enough
// to keep the line busy, at most a megabyte each.
const listAhead = 4

// List implements tree.Source.
func (b *branch) List(ctx context.Context, p tree.Path) iter.Seq2[tree.Entry, error] {
	return func(yield func(tree.Entry, error) bool) {
		if err := b.list(ctx, p, func(e tree.Entry) bool { return yield(e, nil) }); err != nil {
			yield(tree.Entry{}, failed("list", b.name(p), err))
		}
	}
}

// list calls each with what directory p holds, until it returns false.
func (b *branch) list(ctx context.Context, p tree.Path, each func(tree.Entry) bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s, dir, err := b.at(ctx)
	if err != nil {
		return err
	}
	if err := s.long.Acquire(ctx, 1); err != nil {
		return err
	}
	o := &listing{s: s, granted: listAhead, news: make(chan struct{}, 1)}
	id, err := s.control.start(ctx, o, &protocol.List{Place: place(dir, p), Frames: listAhead})
	if err != nil {
		s.long.Release(1)
		return err
	}
	for {
		names, more, err := o.next(ctx)
		if err != nil || !more {
			if ctx.Err() != nil {
				o.leave(id)
			}
			return err
		}
		for i := range names {
			if names[i].Code == protocol.CodeNotFound {
				continue // it has gone meanwhile
			}
			_, e, err := listingFromWire(&names[i], p, false)
			if err != nil || !each(e) {
				o.leave(id)
				return err
			}
		}
		o.grant(id)
	}
}

// A listing is the op of a LIST.
type listing struct {
	s *clientSession

	mu      sync.Mutex
	granted int // how many LISTED the server may still send
	frames  [][]protocol.Listing
	gone    bool // nobody wants them any more
	fail    *protocol.Fail
	over    bool
	err     error

	news chan struct{} // has a token when something of the above has changed
}

func (o *listing) take(_ *lane, f *frame) (bool, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch m := f.Message.(type) {
	case *protocol.Fail:
		o.fail = m
		return true, nil
	case *protocol.Listed:
		if o.granted--; o.granted < 0 {
			return true, violation(f.Type)
		}
		for i := range m.Names {
			if tree.CheckName(m.Names[i].Path) != nil {
				return true, &protocol.Error{Code: protocol.CodeBadPath, Type: f.Type, Field: "path"}
			}
		}
		if !o.gone {
			o.frames = append(o.frames, m.Names)
			o.tell()
		}
		return m.Last, nil
	}
	return true, violation(f.Type)
}

func (o *listing) ended(err error) {
	o.s.long.Release(1)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.over, o.err = true, err
	o.tell()
}

func (o *listing) tell() {
	select {
	case o.news <- struct{}{}:
	default:
	}
}

// next returns the next names; false behind the last.
func (o *listing) next(ctx context.Context) ([]protocol.Listing, bool, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, false, err
		}
		o.mu.Lock()
		if len(o.frames) > 0 {
			names := o.frames[0]
			o.frames = o.frames[1:]
			o.mu.Unlock()
			return names, true, nil
		}
		over, err, fail := o.over, o.err, o.fail
		o.mu.Unlock()
		if over {
			if err == nil && fail != nil {
				err = &failError{fail}
			}
			return nil, false, err
		}
		select {
		case <-o.news:
		case <-ctx.Done():
		}
	}
}

// grant lets the server send one more LISTED.
func (o *listing) grant(id uint64) {
	o.mu.Lock()
	over := o.over
	if !over {
		o.granted++
	}
	o.mu.Unlock()
	if !over {
		_ = o.s.control.post(id, &protocol.More{Frames: 1}) // next hears of a lost stream
	}
}

// leave gives up waiting.
func (o *listing) leave(id uint64) {
	o.mu.Lock()
	over := o.over
	o.gone, o.frames = true, nil
	o.mu.Unlock()
	if !over {
		o.s.control.cancel(id)
	}
}
