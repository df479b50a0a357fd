package store

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"sync"
	"time"

	"transferd/internal/tree"
)

// OpenJournals returns the journals kept in directory dir, which is made when
// the first is opened: what is durable of uploads whose other end keeps none.
func OpenJournals(dir string) tree.Journals {
	h := newHub(Options{Log: slog.New(slog.DiscardHandler)})
	return &journals{path: dir, hub: h}
}

// journalLife is when a journal that nobody continued is given up. The partial
// that it speaks of lies on a server and may be gone long before.
const journalLife = 30 * 24 * time.Hour

type journals struct {
	path  string
	hub   *hub
	sweep sync.Once
	locks rangeLocks
}

// OpenJournal opens or makes the journal named by key. Its file is named by
// the hash of key.
func (j *journals) OpenJournal(ctx context.Context, key string, h tree.JournalHeader) (tree.Journal, error) {
	if h.ChunkSize <= 0 || h.Size < -1 {
		return nil, fmt.Errorf("journal of %s: size %d, chunks of %d bytes", key, h.Size, h.ChunkSize)
	}
	if err := os.MkdirAll(j.path, 0o700); err != nil {
		return nil, err // names the path
	}
	d, err := openHostDir(j.path)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", j.path, explain(err))
	}
	j.sweep.Do(func() {
		before := j.hub.now().Add(-journalLife)
		if _, _, err := j.hub.sweepNames(d, before); err != nil {
			j.hub.log.WarnContext(ctx, "old journals stay", "error", err)
		}
	})
	stem := tree.PartialName(key, "")
	name := key
	if len(name) > maxJournalName {
		name = stem
	}
	f, err := j.hub.openJournal(ctx, d, stem+journalSuffix, name, h, true)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("journal of %s: %w", key, explain(err)), d.Close())
	}
	return &ownJournal{journal: f, dir: d}, nil
}

// An ownJournal is a journal with the directory that it lies in.
type ownJournal struct {
	journal *journalFile
	dir     *dir
}

func (o *ownJournal) Have() iter.Seq2[int64, tree.Value] { return o.journal.Have() }
func (o *ownJournal) Unchanged() bool                    { return o.journal.Unchanged() }
func (o *ownJournal) Forget(indexes []int64) error       { return o.journal.Forget(indexes) }

// Record makes also the journal's name durable, once.
func (o *ownJournal) Record(chunks map[int64]tree.Value) error {
	if err := o.journal.Record(chunks); err != nil {
		return err
	}
	return o.journal.syncName()
}

func (o *ownJournal) Close() error  { return errors.Join(o.journal.Close(), o.dir.Close()) }
func (o *ownJournal) Remove() error { return errors.Join(o.journal.Remove(), o.dir.Close()) }
