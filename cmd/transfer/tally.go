package main

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"transferd/internal/transfer"
)

// rateWindow is how far back the rate of a copy looks: long enough to be
// steady, short enough that a stall shows.
const rateWindow = 8 * time.Second

// sampleSpan is how close two samples of the rate may be.
const sampleSpan = 200 * time.Millisecond

// A tally adds up the events of one copy. It is safe for concurrent use.
type tally struct {
	now   func() time.Time
	start time.Time

	mu      sync.Mutex // guards everything below
	found   transfer.Found
	bytes   int64 // done, in whatever way
	sent    int64
	resumed int64
	files   int64 // copied
	skipped int64
	failed  int64
	running map[int64]*moving
	broken  moving // sums over files that failed: sent and resumed
	samples []sample
}

// moving is a file on its way.
type moving struct {
	path    string
	size    int64 // -1: not known
	bytes   int64
	sent    int64
	resumed int64
	since   time.Time
}

type sample struct {
	at   time.Time
	sent int64
}

func newTally(now func() time.Time) *tally {
	start := now()
	return &tally{now: now, start: start, running: map[int64]*moving{}, samples: []sample{{at: start}}}
}

// add takes an event in.
func (t *tally) add(event transfer.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch e := event.(type) {
	case transfer.Found:
		t.found = e
	case transfer.Started:
		if t.sent == 0 && len(t.running) == 0 {
			t.samples = []sample{{at: t.now()}} // connecting and questions took their time
		}
		t.running[e.ID] = &moving{path: e.Path, size: e.Size, since: t.now()}
	case transfer.Moved:
		t.moved(e)
	case transfer.Finished:
		t.finished(e)
	case transfer.Failed:
		t.failed++
		if f := t.running[e.ID]; f != nil {
			t.broken.sent += f.sent
			t.broken.resumed += f.resumed
			delete(t.running, e.ID)
		}
	}
}

func (t *tally) moved(e transfer.Moved) {
	n := e.Bytes
	if f := t.running[e.ID]; f != nil {
		if f.size >= 0 {
			n = min(n, f.size-f.bytes) // what is sent twice is done once
		}
		f.bytes += n
		if e.Resumed {
			f.resumed += e.Bytes
		} else {
			f.sent += e.Bytes
		}
	}
	t.bytes += n
	if e.Resumed {
		t.resumed += e.Bytes
		return
	}
	t.sent += e.Bytes
	t.sample(t.now())
}

func (t *tally) finished(e transfer.Finished) {
	switch e.Status {
	case transfer.Skipped:
		t.skipped++
	case transfer.Copied, transfer.Linked, transfer.HardLinked:
		t.files++
	case transfer.Planned:
	}
	if f := t.running[e.ID]; f != nil {
		t.bytes += max(0, e.Size-f.bytes) // holes were never moved
		delete(t.running, e.ID)
	} else if e.Status == transfer.Skipped || e.Status == transfer.Copied || e.Status == transfer.HardLinked {
		t.bytes += e.Size
	}
}

// unfinished returns how many bytes were sent and resumed of files that did not
// come to their end, which an engine's Summary leaves out.
func (t *tally) unfinished() (sent, resumed int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	sent, resumed = t.broken.sent, t.broken.resumed
	for _, f := range t.running {
		sent += f.sent
		resumed += f.resumed
	}
	return sent, resumed
}

// sample remembers how much was sent by now, and forgets what lies behind the
// window but for one sample, from which the rate is counted.
func (t *tally) sample(now time.Time) {
	if last := t.samples[len(t.samples)-1]; now.Sub(last.at) >= sampleSpan {
		t.samples = append(t.samples, sample{now, t.sent})
	}
	for len(t.samples) > 1 && now.Sub(t.samples[1].at) >= rateWindow {
		t.samples = t.samples[1:]
	}
}

// A snapshot is the state of a copy at one moment.
type snapshot struct {
	bytes    int64 // done, resumed and skipped included
	resumed  int64
	total    int64 // bytes found so far
	complete bool  // total is all there is

	files      int64 // done, skipped included
	skipped    int64
	failed     int64
	filesTotal int64

	elapsed time.Duration
	rate    float64       // bytes a second, lately
	eta     time.Duration // -1: not known
	running []moving      // the oldest first
}

func (t *tally) snapshot() snapshot {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	t.sample(now)
	s := snapshot{
		bytes:      t.bytes,
		resumed:    t.resumed,
		total:      max(t.found.Bytes, t.bytes),
		complete:   t.found.Complete,
		files:      t.files + t.skipped,
		skipped:    t.skipped,
		failed:     t.failed,
		filesTotal: max(t.found.Files, t.files+t.skipped+t.failed), // symlinks are done without being found
		elapsed:    now.Sub(t.start),
		eta:        -1,
	}
	if from := t.samples[0]; now.After(from.at) {
		s.rate = float64(t.sent-from.sent) / now.Sub(from.at).Seconds()
	}
	if s.complete && s.rate >= 1 {
		s.eta = time.Duration(float64(s.total-s.bytes) / s.rate * float64(time.Second))
	}
	for _, f := range t.running {
		s.running = append(s.running, *f)
	}
	slices.SortFunc(s.running, func(a, b moving) int {
		return cmp.Or(a.since.Compare(b.since), cmp.Compare(a.path, b.path))
	})
	return s
}
