package transfer

import (
	"context"
	"fmt"
	"io/fs"
	"iter"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"transferd/internal/tree"
)

// slow is a server far away: every call takes a round trip. As a source it has
// dirs directories in a row, each with as many directories of files of size
// bytes; as a sink it takes everything and remembers names.
type slow struct {
	tree.Sink
	rtt               time.Duration
	dirs, files, size int

	mu       sync.Mutex // guards what follows
	running  int
	most     int
	bytes    int // of Put and Get under way
	mostSeen int
	made     map[tree.Path]bool
	finished map[tree.Path]bool // directories that have their attributes
	wrong    []string
}

func (s *slow) Transport() string { return "tcp" }

// trip is a round trip with a payload.
func (s *slow) trip(ctx context.Context, payload int) error {
	s.mu.Lock()
	s.running++
	s.bytes += payload
	s.most, s.mostSeen = max(s.most, s.running), max(s.mostSeen, s.bytes)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.running--
		s.bytes -= payload
	}()
	if s.rtt > 0 {
		// Its end is not listened to: thousands of selects over one context are
		// more than the race detector's runtime bears.
		<-time.NewTimer(s.rtt).C
	}
	return ctx.Err()
}

func (s *slow) note(p tree.Path, dir bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.made == nil {
		s.made, s.finished = map[tree.Path]bool{}, map[tree.Path]bool{}
	}
	up := p.Parent()
	if _, ok := s.made[up]; !ok && up != tree.Root {
		s.wrong = append(s.wrong, fmt.Sprintf("%s was made before %s", p, up))
	}
	if s.finished[up] {
		s.wrong = append(s.wrong, fmt.Sprintf("%s was made when %s was finished", p, up))
	}
	s.made[p] = dir
}

func (s *slow) Stat(ctx context.Context, p tree.Path) (tree.Entry, error) { return s.Lstat(ctx, p) }

func (s *slow) Lstat(ctx context.Context, p tree.Path) (tree.Entry, error) {
	err := s.trip(ctx, 0)
	s.mu.Lock()
	defer s.mu.Unlock()
	if tree.IsPartialName(p.Base()) && s.dirs > 0 {
		return tree.Entry{}, fs.ErrNotExist
	}
	if dir, ok := s.made[p]; s.dirs == 0 && p != tree.Root && (!ok || !dir) && err == nil {
		err = fs.ErrNotExist
	}
	return tree.Entry{Name: p.Base(), Kind: tree.KindDir, Perm: 0o755}, err
}

func (s *slow) List(ctx context.Context, p tree.Path) iter.Seq2[tree.Entry, error] {
	return func(yield func(tree.Entry, error) bool) {
		if err := s.trip(ctx, 0); err != nil {
			yield(tree.Entry{}, err)
			return
		}
		if s.dirs > 0 && p == tree.Root {
			for i := range s.dirs {
				if !yield(tree.Entry{Name: "d" + strconv.Itoa(i), Kind: tree.KindDir, Perm: 0o755}, nil) {
					return
				}
			}
			return
		}
		for i := range s.files {
			if !yield(s.entry("f"+strconv.Itoa(i)), nil) {
				return
			}
		}
	}
}

func (s *slow) entry(name string) tree.Entry {
	return tree.Entry{Name: name, Kind: tree.KindFile, Size: int64(s.size), Perm: 0o644, Mtime: moment(1), Grain: 1}
}

func (s *slow) GetLimit(context.Context) (int64, error) { return 256 << 10, nil }
func (s *slow) PutLimit(context.Context) (int64, error) { return 256 << 10, nil }

func (s *slow) Get(ctx context.Context, p tree.Path, _ int64) (tree.Got, error) {
	data := make([]byte, s.size)
	for i := range data {
		data[i] = 1
	}
	return tree.Got{Entry: s.entry(p.Base()), Data: data}, s.trip(ctx, s.size)
}

func (s *slow) Put(ctx context.Context, f tree.Small) (tree.Receipt, error) {
	err := s.trip(ctx, len(f.Data))
	s.note(f.Path, false)
	return tree.Receipt{Verified: tree.VerifiedDigest}, err
}

func (s *slow) Mkdir(ctx context.Context, p tree.Path, _ tree.Perm) error {
	err := s.trip(ctx, 0)
	s.note(p, true)
	return err
}

func (s *slow) SetAttr(ctx context.Context, p tree.Path, _ tree.Attr) error {
	s.mu.Lock()
	if s.finished != nil {
		s.finished[p] = true
	}
	s.mu.Unlock()
	return s.trip(ctx, 0)
}

func (s *slow) Remove(ctx context.Context, _ tree.Path) error { return s.trip(ctx, 0) }

func (s *slow) Rename(ctx context.Context, _, to tree.Path, _ tree.RenameMode) error {
	s.note(to, true)
	return s.trip(ctx, 0)
}

func (s *slow) Begin(ctx context.Context, u tree.Upload) (tree.Writer, error) {
	if !strings.HasPrefix(u.Path.Base(), ".transfer-") { // the mark
		return nil, fmt.Errorf("%s is not put in one piece", u.Path)
	}
	return voidWriter{}, s.trip(ctx, 0)
}

// However far away: what a tree takes is a few round trips a level, and those
// that the files take side by side.
func TestRoundTripsOverlap(t *testing.T) {
	const rtt = 50 * time.Millisecond
	for _, tt := range []struct {
		name              string
		dirs, files, size int
		trips             int // at most, one behind the other
	}{
		{"one directory", 1, 5000, 4096, 20},
		{"a hundred", 100, 50, 4096, 25},
		{"many of few", 500, 2, 4096, 45},
		{"bounded by their bytes", 1, 500, 200 << 10, 20},
	} {
		for _, far := range []string{"upload", "download"} {
			synctest.Test(t, func(t *testing.T) {
				from, to := &slow{dirs: tt.dirs, files: tt.files, size: tt.size}, &slow{}
				if far == "upload" {
					to.rtt = rtt
				} else {
					from.rtt = rtt
				}
				start := time.Now()
				sum, err := Copy(t.Context(), place(to, "to", "new"), []Place{place(from, "from", ".")}, options())
				if err != nil || sum.Files != int64(tt.dirs*tt.files) {
					t.Fatalf("%s, %s: copy = %+v, %v", far, tt.name, sum, err)
				}
				if trips := int(time.Since(start) / rtt); trips > tt.trips {
					t.Errorf("%s, %s: %d round trips one behind the other, want at most %d", far, tt.name, trips, tt.trips)
				}
				for _, s := range []*slow{from, to} {
					if s.mostSeen > chunkMemory || s.most > smallFiles+walkers+1 {
						t.Errorf("%s, %s: %d calls with %d bytes at once", far, tt.name, s.most, s.mostSeen)
					}
				}
				if len(to.wrong) > 0 {
					t.Errorf("%s, %s: %d times the order was wrong: %s", far, tt.name, len(to.wrong), to.wrong[0])
				}
			})
		}
	}
}
