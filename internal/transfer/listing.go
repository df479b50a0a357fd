package transfer

import (
	"context"
	"encoding/binary"

	"transferd/internal/tree"
)

const (
	// firstEntries is how many entries of a directory are read before the walk
	// sees the first: all of most directories, whose listing is over then.
	firstEntries = 1024

	// nextEntries is how many it gets at once of larger ones.
	nextEntries = 256
)

// A listing reads a directory of the source beside the walk, a bounded number
// of entries ahead. However large the directory is, it is never held whole.
type listing struct {
	batches chan []tree.Entry // closed at the end
	cancel  context.CancelFunc
	given   nameLog // what a second reading must not give again

	// Set before batches is closed.
	err error
}

// list starts to read directory p of src. The caller calls stop.
func (c *copier) list(ctx context.Context, label string, src tree.Source, p tree.Path) *listing {
	ctx, cancel := context.WithCancel(ctx)
	l := &listing{batches: make(chan []tree.Entry, 1), cancel: cancel}
	go func() {
		defer close(l.batches)
		l.err = c.retry(ctx, label, func() error { return l.read(ctx, src, p) })
	}()
	return l
}

// read gives every entry that was not given before.
func (l *listing) read(ctx context.Context, src tree.Source, p tree.Path) error {
	again := l.given.index()
	size := nextEntries
	if again == nil {
		size = firstEntries
	}
	var batch []tree.Entry
	for e, err := range src.List(ctx, p) {
		if err != nil {
			return err
		}
		if again.has(e.Name) {
			continue
		}
		if len(batch) == size {
			if err := l.give(ctx, batch, true); err != nil {
				return err
			}
			batch, size = nil, nextEntries
		}
		batch = append(batch, e)
	}
	return l.give(ctx, batch, false)
}

// give hands a batch to the walk. more says that the names may be met again.
func (l *listing) give(ctx context.Context, batch []tree.Entry, more bool) error {
	select {
	case l.batches <- batch:
	case <-ctx.Done():
		return ctx.Err()
	}
	if more {
		for _, e := range batch {
			l.given.add(e.Name)
		}
	}
	return nil
}

// stop ends the reading and returns when it has.
func (l *listing) stop() {
	l.cancel()
	for range l.batches {
		continue // until it is closed
	}
}

// A nameLog is a list of names, packed. The zero value is empty.
type nameLog struct{ pages [][]byte }

func (n *nameLog) add(name string) {
	last := len(n.pages) - 1
	if last < 0 || len(n.pages[last])+len(name)+binary.MaxVarintLen64 > cap(n.pages[last]) {
		n.pages = append(n.pages, make([]byte, 0, max(textPage, len(name)+binary.MaxVarintLen64)))
		last++
	}
	page := binary.AppendUvarint(n.pages[last], uint64(len(name)))
	n.pages[last] = append(page, name...)
}

// index makes the list one that can be asked; nil if it is empty.
func (n *nameLog) index() *names {
	var index *names
	for _, page := range n.pages {
		for len(page) > 0 {
			length, at := binary.Uvarint(page)
			if index == nil {
				index = &names{}
			}
			index.add(tree.Entry{Name: string(page[at : at+int(length)])}) //nolint:gosec // what add wrote
			page = page[at+int(length):]                                   //nolint:gosec // as above
		}
	}
	return index
}
