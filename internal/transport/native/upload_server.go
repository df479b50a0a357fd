package native

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"transferd/internal/tree"
	"transferd/protocol"
)

// How a session works with its uploads, in the order of a session's life:
//
//	ups := newServerUploads(…)              one for each session
//	in := ups.intake(stream)          one for each stream, used by its read loop alone
//	ups.begin(ctx, stream, id, m, …)  BEGIN; returns at once
//	u := ups.find(id)                 nil: no upload that is open
//	in.data(u, f.Data)                DATA; reads the payload, may wait for memory
//	u.message(f.Message)              RECHECK, COMMIT, SUSPEND, ABORT, CANCEL; never waits
//	u.refused(f.Refused)              any of them that could not be understood
//	in.lost()                         the stream has ended, its read loop too
//	ups.lost(stream)                  the same, for the uploads that began on it
//	ups.end()                         the session ends; returns when all is suspended
//
// All but the intake is safe for concurrent use.

// A beginner is what an upload begins in: the tree of the guest, or what is
// below an open directory.
type beginner interface {
	Begin(ctx context.Context, u tree.Upload) (tree.Writer, error)
}

// serverUploads are the uploads of one session. Make it with newServerUploads.
type serverUploads struct {
	share   *poolShare // of the memory for chunks
	window  *window    // of the session
	payload *payloads
	zstd    bool // both hellos had it
	log     *slog.Logger
	expiry  time.Duration // after which a partial without a writer goes; 0: never

	group   sync.WaitGroup
	commits chan struct{} // full while parallelCommits of long files go on
	attrs   *window       // bytes of attributes that wait in COMMIT

	mu    sync.Mutex
	open  map[uint64]*serverUpload
	ended bool
}

// newServerUploads returns the uploads of a session whose memory comes from pool and
// whose window it shares with PUT and WRITE.
func newServerUploads(pool *chunkPool, w *window, payload *payloads, zstd bool, log *slog.Logger) *serverUploads {
	return &serverUploads{
		share: pool.share(), window: w, payload: payload, zstd: zstd, log: log,
		open:    map[uint64]*serverUpload{},
		commits: make(chan struct{}, parallelCommits),
		attrs:   &window{limit: attrBytes},
	}
}

// attrBytes is how much the extended attributes of all COMMIT of a session may
// take that wait for their chunks or the disk.
const attrBytes = 16 << 20

// begin starts the upload that m, which came on st, asks for. All its answers
// go to st. release is called once, just before the last answer goes or when
// there is nobody to answer: the id is free from then on, and in is not used any
// more. The upload is suspended when ctx ends.
func (s *serverUploads) begin(ctx context.Context, st *stream, id uint64, m *protocol.Begin, in beginner, release func()) {
	u := newServerUpload(ctx, s, st, id, m, release)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		release()
		return
	}
	s.open[id] = u
	s.group.Go(func() {
		defer context.AfterFunc(ctx, u.lost)()
		u.run(in) //nolint:contextcheck // ctx ends it by lost: what has come is still written
	})
}

// find returns the open upload with id, or nil.
func (s *serverUploads) find(id uint64) *serverUpload {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open[id]
}

// intake returns what takes the DATA of a stream.
func (s *serverUploads) intake(st *stream) *intake { return &intake{session: s, st: st} }

// lost suspends the uploads that came on st; nobody is told.
func (s *serverUploads) lost(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, u := range s.open {
		if u.st == st {
			u.lost()
		}
	}
}

// end suspends all uploads, and returns when what had arrived is durable. No
// more begin.
func (s *serverUploads) end() {
	s.mu.Lock()
	s.ended = true
	for _, u := range s.open {
		u.lost()
	}
	s.mu.Unlock()
	s.group.Wait()
}

// forget takes u out of the open ones.
func (s *serverUploads) forget(u *serverUpload) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, u.id)
}
