package transfer

import "sync"

// A fate is what became of a chunk.
type fate uint8

const (
	fateOpen    fate = iota
	fateSent         // moved in this run
	fateResumed      // there since an earlier run
	fateHole         // zeros that neither side stores
)

// A ledger counts what of one file is done, so that listeners hear of each byte
// once, however often it is sent. The sum of what they hear is the size of the
// file, or what was done of an earlier version of it where that is more.
type ledger struct {
	mu    sync.Mutex
	size  int64
	fates []fate
	done  int64 // of the file as it is now
	told  int64 // to listeners
	found int64 // of the file in Found
}

// reset prepares for a file of size bytes in n chunks and returns how much more
// there is to do than was known. A file that did not change keeps its fates.
func (l *ledger) reset(size int64, n int) (more int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size != size || len(l.fates) != n {
		l.size, l.fates, l.done = size, make([]fate, n), 0
	}
	more = max(size, l.told) - l.found
	l.found += more
	return more
}

// settle notes the fate of chunk i of n bytes and returns how many bytes are to
// be told. Only the first fate counts.
func (l *ledger) settle(i, n int64, f fate) (news int64, first bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fates[i] != fateOpen {
		return 0, false
	}
	l.fates[i] = f
	l.done += n
	news = max(0, l.done-l.told)
	l.told += news
	return news, true
}

// revoke notes that chunk i has to be sent after all and reports whether it was
// thought to be there since an earlier run.
func (l *ledger) revoke(i int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	was := l.fates[i]
	l.fates[i] = fateSent
	return was == fateResumed
}
