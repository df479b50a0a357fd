package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"transferd/internal/tree"
)

// ctimeGrain is how long, with room to spare, a change may keep the ctime of
// the change before it: a tick of 100 Hz. Newer kernels are finer.
const ctimeGrain = 20 * time.Millisecond

// GetLimit implements tree.Getter.
func (s *Store) GetLimit(ctx context.Context) (int64, error) { return maxSmall, ctx.Err() }

// Get reads a small file whole, as it was at one moment.
func (s *Store) Get(ctx context.Context, p tree.Path, limit int64) (tree.Got, error) {
	limit = min(limit, maxSmall)
	for range 3 {
		if err := ctx.Err(); err != nil {
			return tree.Got{}, err
		}
		e, data, err := s.readSmall(p, limit)
		if err != nil {
			return tree.Got{}, s.fail("open", p, err)
		}
		wait := unsettled(e, time.Now())
		if wait == 0 {
			e.Name = p.Base()
			s.hub.names.fill(&e)
			digest := tree.Digest(tree.ChunkValue(data, 0, tree.MinChunkSize, true))
			return tree.Got{Entry: e, Data: data, Digest: digest}, nil
		}
		// It was changed a moment ago, and may have been again, unseen.
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return tree.Got{}, ctx.Err()
		case <-t.C:
		}
	}
	return tree.Got{}, s.fail("open", p, tree.ErrSourceChanged)
}

// unsettled returns how long after now a change of e must be visible in its
// ctime.
func unsettled(e tree.Entry, now time.Time) time.Duration {
	age := now.Sub(e.Ctime)
	if e.Ctime.IsZero() || age >= ctimeGrain || age < -time.Second { // a clock that was set back tells nothing
		return 0
	}
	return ctimeGrain - max(age, 0)
}

// readLinked reads the file that p leads to, unless it is larger than limit.
func (s *Store) readLinked(p tree.Path, limit int64) (tree.Entry, []byte, error) {
	f, err := s.lookup(p, 0, 0, true)
	if err != nil {
		return tree.Entry{}, nil, err
	}
	defer func() { _ = f.Close() }()
	e, err := fileEntry(f, "")
	if err != nil {
		return tree.Entry{}, nil, err
	}
	if e.Size > limit {
		return e, nil, tooLarge(e.Size)
	}
	data := make([]byte, e.Size)
	if err := readFull(f, data, 0); errors.Is(err, io.ErrUnexpectedEOF) {
		return e, nil, tree.ErrSourceChanged
	} else if err != nil {
		return e, nil, err
	}
	after, err := fileEntry(f, "")
	if err != nil {
		return e, nil, err
	}
	return e, data, unchanged(e, after)
}

func tooLarge(size int64) error {
	return fmt.Errorf("%w: %d bytes at once", errors.ErrUnsupported, size)
}

// unchanged compares what a file was before it was read with what it was after.
func unchanged(before, after tree.Entry) error {
	if before.Identity() != after.Identity() || before.Device != after.Device {
		return tree.ErrSourceChanged
	}
	return nil
}
