package native

import (
	"context"
	"errors"

	"transferd/internal/tree"
	"transferd/protocol"
)

// GetLimit implements tree.Getter.
func (b *branch) GetLimit(ctx context.Context) (int64, error) {
	s, err := b.c.session(ctx)
	if err != nil {
		return 0, err
	}
	return int64(s.welcome.Inline), nil
}

// Get implements tree.Getter. A file that does not come by one GET is
// errors.ErrUnsupported.
func (b *branch) Get(ctx context.Context, p tree.Path, limit int64) (tree.Got, error) {
	s, dir, err := b.at(ctx)
	if err != nil {
		return tree.Got{}, failed("read", b.name(p), err)
	}
	limit = max(0, min(limit, int64(s.welcome.Inline)))
	m := &protocol.Get{Place: place(dir, p), Limit: uint32(limit)} //nolint:gosec // just bounded
	if s.wantsZstd() {
		m.Flags = protocol.ReadZstd
	}
	answer, err := s.get(ctx, m)
	if err != nil {
		return tree.Got{}, failed("read", b.name(p), err)
	}
	got, err := s.gotFromWire(p, m, answer)
	return got, failed("read", b.name(p), err)
}

func (s *clientSession) get(ctx context.Context, m *protocol.Get) (*protocol.Got, error) {
	for {
		l := s.pick(int64(m.Limit))
		answer, err := l.do(ctx, m, protocol.TypeGot)
		l.load.Add(-int64(m.Limit))
		if err == nil {
			got := answer.(*protocol.Got)
			l.received.Add(int64(len(got.Data)))
			return got, nil
		}
		if !s.again(l, err) {
			return nil, err
		}
	}
}

// gotFromWire is the file that answers m, once its digest is found right.
func (s *clientSession) gotFromWire(p tree.Path, m *protocol.Get, w *protocol.Got) (tree.Got, error) {
	got := tree.Got{Entry: entryFromWire(p.Base(), &w.Entry), Data: w.Data, Digest: tree.Digest(w.Digest)}
	size := w.Entry.Size
	switch {
	case w.Entry.Kind != protocol.KindFile:
		return tree.Got{}, tree.ErrNotRegular
	case size > int64(m.Limit):
		return tree.Got{}, errors.ErrUnsupported
	case w.Encoding == protocol.EncodingZstd && m.Flags&protocol.ReadZstd != 0:
		got.Data = make([]byte, size)
		if err := s.c.payloads.unpack(protocol.TypeGot, got.Data, w.Encoding, w.Data); err != nil {
			return tree.Got{}, tree.ErrIntegrity
		}
	case w.Encoding != protocol.EncodingRaw || int64(len(w.Data)) != size:
		return tree.Got{}, tree.ErrIntegrity
	}
	if tree.Digest(tree.ChunkValue(got.Data, 0, tree.MinChunkSize, true)) != got.Digest {
		return tree.Got{}, tree.ErrIntegrity
	}
	return got, nil
}
