package store

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"slices"
	"sync"

	"transferd/internal/tree"
)

// A journalFile is an open, locked journal. It is a tree.Journal.
type journalFile struct {
	hub  *hub
	dir  *dir // not owned
	name string
	f    *os.File

	have      map[int64]tree.Value // at open; not changed later
	unchanged bool

	syncing sync.Mutex // one sync at a time: who waits for it often needs none any more

	mu     sync.Mutex
	salt   uint64
	end    int64
	synced int64 // up to where it is durable
	named  bool  // the name is durable
	err    error // after a failed fsync: nothing more is recorded
	buf    []byte
}

// openJournal opens or makes the locked journal name in d. What it holds is
// kept if resume is set and it is of the same upload, else it is emptied,
// durably, before anything else can happen to the partial that it speaks of.
func (h *hub) openJournal(ctx context.Context, d *dir, name, of string, want tree.JournalHeader, resume bool) (*journalFile, error) {
	f, _, err := h.openPrivate(ctx, d, name)
	if err != nil {
		return nil, err
	}
	j := &journalFile{hub: h, dir: d, name: name, f: f}
	if err := j.load(of, want, resume); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return j, nil
}

func (j *journalFile) load(of string, want tree.JournalHeader, resume bool) error {
	st, err := readJournal(io.NewSectionReader(j.f, 0, 1<<62))
	switch {
	case errors.Is(err, errNoJournal):
		st = nil
	case err != nil:
		return err
	}
	usable := st != nil && resume && st.name == of && st.header.ChunkSize == want.ChunkSize
	if !usable {
		return j.create(of, want, st == nil)
	}
	j.salt, j.end = st.salt, st.end
	if err := j.cut(); err != nil {
		return err
	}
	j.unchanged = st.header.Source == want.Source && !st.mixed
	records := []record{ownerRecord()}
	if st.header != want {
		r := record{kind: recordSource, index: want.Size, value: identityValue(want.Source)}
		if st.apply(r); len(st.have) == 0 {
			return j.create(of, want, false)
		}
		records = append(records, r)
	}
	j.have = st.have
	return j.append(records, false)
}

// cut takes off the torn tail, durably: no later record may make it whole.
func (j *journalFile) cut() error {
	e, err := fileEntry(j.f, j.name)
	if err != nil || e.Size == j.end {
		return err
	}
	if err := j.truncate(j.end); err != nil {
		return err
	}
	return j.sync()
}

// create starts the journal anew. The old one is gone for sure before its
// partial may change.
func (j *journalFile) create(of string, want tree.JournalHeader, empty bool) error {
	if err := j.truncate(0); err != nil {
		return err
	}
	if !empty {
		if err := j.sync(); err != nil {
			return err
		}
	}
	var salt [8]byte
	_, _ = rand.Read(salt[:]) // never fails
	j.salt, j.end = binary.LittleEndian.Uint64(salt[:]), 0
	j.unchanged = true
	st := journalState{header: want, name: of, salt: j.salt}
	if err := j.write(appendRecord(appendHeader(nil, &st), j.salt, ownerRecord())); err != nil {
		return err
	}
	// Blocks for the records: a full disk must not keep us from recording what
	// it has taken.
	if want.Size > 0 {
		room := j.end + recordSize*(tree.ChunkCount(want.Size, want.ChunkSize)+64)
		_ = j.hub.sys.preallocate(j.f, room)
	}
	return nil
}

func ownerRecord() record {
	r := record{kind: recordOwner, index: int64(os.Getpid())}
	copy(r.value[:], thisHost())
	return r
}

// thisHost is this machine's name as a record holds it, "" if it has none.
func thisHost() string {
	host, err := os.Hostname()
	if err != nil {
		return ""
	}
	return host[:min(len(host), len(tree.Value{}))]
}

// Have yields what was recorded before this run, in order.
func (j *journalFile) Have() iter.Seq2[int64, tree.Value] { return inOrder(j.have) }

func inOrder(m map[int64]tree.Value) iter.Seq2[int64, tree.Value] {
	return func(yield func(int64, tree.Value) bool) {
		for _, i := range slices.Sorted(maps.Keys(m)) {
			if !yield(i, m[i]) {
				return
			}
		}
	}
}

// Unchanged reports whether all that Have yields is of the same source.
func (j *journalFile) Unchanged() bool { return j.unchanged }

// Record returns when the chunks are durably recorded.
func (j *journalFile) Record(chunks map[int64]tree.Value) error {
	records := make([]record, 0, len(chunks))
	for i, v := range inOrder(chunks) {
		records = append(records, record{kind: recordDurable, index: i, value: v})
	}
	return j.append(records, true)
}

// Forget drops chunks that turned out bad. It is not made durable: whoever
// resumes checks every chunk again.
func (j *journalFile) Forget(indexes []int64) error { return j.forget(indexes, false) }

func (j *journalFile) forget(indexes []int64, durable bool) error {
	records := make([]record, 0, len(indexes))
	for _, i := range indexes {
		records = append(records, record{kind: recordForget, index: i})
	}
	return j.append(records, durable)
}

// append writes records behind the last one, all or none as far as this
// process sees, and makes them durable if asked.
func (j *journalFile) append(records []record, durable bool) error {
	end, err := j.add(records)
	if err != nil || !durable {
		return err
	}
	return j.syncTo(end)
}

// add writes records and returns where they end.
func (j *journalFile) add(records []record) (end int64, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil {
		return 0, j.err
	}
	b := j.buf[:0]
	for _, r := range records {
		b = appendRecord(b, j.salt, r)
	}
	j.buf = b
	if err := j.write(b); err != nil {
		// What was written of them must not count: their data is durable, but
		// the next append would come behind a tear.
		if terr := j.truncate(j.end); terr != nil {
			j.err = fmt.Errorf("%w: %w", errDead, explain(err))
		}
		return 0, err
	}
	return j.end, nil
}

// syncTo returns when what lies before end is durable.
func (j *journalFile) syncTo(end int64) error {
	j.syncing.Lock()
	defer j.syncing.Unlock()
	j.mu.Lock()
	dead, synced, now := j.err, j.synced, j.end
	j.mu.Unlock()
	if dead != nil || synced >= end {
		return dead
	}
	err := j.sync()
	j.mu.Lock()
	defer j.mu.Unlock()
	if err != nil {
		j.err = fmt.Errorf("%w: %w", errDead, explain(err))
		return err
	}
	j.synced = now
	return nil
}

func (j *journalFile) write(b []byte) error {
	if err := j.hub.before(step{op: stepWrite, dir: j.dir, name: j.name, off: j.end, data: b}); err != nil {
		return err
	}
	if _, err := j.hub.sys.write(j.f, b, j.end); err != nil {
		return err
	}
	j.end += int64(len(b))
	return nil
}

func (j *journalFile) truncate(size int64) error {
	if err := j.hub.before(step{op: stepTruncate, dir: j.dir, name: j.name, off: size}); err != nil {
		return err
	}
	return j.f.Truncate(size)
}

func (j *journalFile) sync() error {
	if err := j.hub.before(step{op: stepSync, dir: j.dir, name: j.name}); err != nil {
		return err
	}
	return j.hub.sys.datasync(j.f)
}

// syncName makes the journal's name durable, once.
func (j *journalFile) syncName() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.named {
		return nil
	}
	if err := j.hub.syncDir(j.dir); err != nil {
		return err
	}
	j.named = true
	return nil
}

// Close keeps the journal for the next run.
func (j *journalFile) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.f.Close()
}

// Remove deletes the journal.
func (j *journalFile) Remove() error {
	err := j.hub.removeStep(j.dir, j.name)
	return errors.Join(err, j.Close())
}

func (h *hub) removeStep(d *dir, name string) error {
	if err := h.before(step{op: stepRemove, dir: d, name: name}); err != nil {
		return err
	}
	return d.remove(name)
}
