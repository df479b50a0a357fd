package store

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"transferd/internal/tree"
)

// An index remembers in which directories partials were begun, so that Sweep
// finds them without walking a tree. It is an append-only file of lines, one
// for each directory and not for each partial: ten thousand small files in one
// directory cost one line. Several processes may share it. Its nil value
// remembers nothing.
type index struct {
	path string
	hub  *hub

	mu    sync.Mutex
	seen  map[indexed]time.Time // what this process has written, and when
	dirty bool                  // lines are not durable yet
}

// indexed is a directory: root is the OS path of a confined tree ("" the
// host), dir a Path in it.
type indexed struct{ root, dir string }

// indexLine is the JSON of a line. Names are quoted as Go does, for JSON would
// lose bytes that are not UTF-8.
type indexLine struct {
	Root string `json:"root"`
	Dir  string `json:"dir"`
	Unix int64  `json:"unix"` // when the line was written, seconds since 1970
}

const (
	// indexRefresh: a directory in which partials are still made after this
	// gets a new line.
	indexRefresh = time.Hour

	// indexLife: a line of a directory without partials is dropped when it is
	// older, by then no process relies on it.
	indexLife = 2 * indexRefresh

	maxSeen = 100_000
)

func newIndex(stateDir string, h *hub) *index {
	return &index{path: filepath.Join(stateDir, "partials"), hub: h}
}

// add remembers the directory of s that path leads to.
func (x *index) add(ctx context.Context, s *Store, path string) {
	if x != nil {
		x.note(ctx, indexed{root: s.where, dir: s.at.Append(tree.Path(path)).String()})
	}
}

func (x *index) line(k indexed, at time.Time) []byte {
	b, err := json.Marshal(indexLine{Root: strconv.QuoteToASCII(k.root), Dir: strconv.QuoteToASCII(k.dir), Unix: at.Unix()})
	if err != nil { // strings and a number
		return nil
	}
	return append(b, '\n')
}

// note writes a line for k unless a fresh one is there. That it cannot is told
// to the operator and nobody else: the upload is good without.
func (x *index) note(ctx context.Context, k indexed) {
	x.mu.Lock()
	defer x.mu.Unlock()
	now := x.hub.now()
	if at, ok := x.seen[k]; ok && now.Sub(at) < indexRefresh {
		return
	}
	if err := x.write(ctx, k, now); err != nil {
		x.hub.log.WarnContext(ctx, "partial not indexed", "dir", k.dir, "error", err)
		return
	}
	if x.seen == nil || len(x.seen) >= maxSeen {
		x.seen = map[indexed]time.Time{}
	}
	x.seen[k] = now
	x.dirty = true
}

// write appends a line to the file that the name means while it is locked:
// another process may put a shorter one there.
func (x *index) write(ctx context.Context, k indexed, now time.Time) error {
	f, err := x.open(ctx, true)
	if err != nil {
		return err
	}
	_, err = f.Write(x.line(k, now))
	return errors.Join(err, f.Close())
}

// open opens the index, locked: shared by those who append, else alone.
func (x *index) open(ctx context.Context, shared bool) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(x.path), 0o700); err != nil {
		return nil, err
	}
	var wait waiting
	for {
		f, err := os.OpenFile(x.path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return nil, err
		}
		err = x.hub.sys.lock(f, shared)
		current := false
		if err == nil || isUnsupported(err) {
			current, err = isNamed(f, x.path)
		}
		if err == nil && current {
			return f, nil
		}
		if cerr := f.Close(); cerr != nil {
			return nil, cerr
		}
		if errors.Is(err, errBusy) {
			err = wait.again(ctx, x.hub)
		}
		if err != nil {
			return nil, err
		}
	}
}

func isNamed(f *os.File, path string) (bool, error) {
	a, err := f.Stat()
	if err != nil {
		return false, err
	}
	b, err := os.Stat(path)
	if err != nil {
		if isNotExist(err) {
			return false, nil
		}
		return false, err
	}
	return os.SameFile(a, b), nil
}

// sync makes the lines durable, before the first partial that must be found
// after a power cut.
func (x *index) sync() {
	if x == nil {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.dirty {
		return
	}
	x.dirty = false
	f, err := os.OpenFile(x.path, os.O_WRONLY, 0) //nolint:gosec // the operator's own directory
	if err == nil {
		err = errors.Join(x.hub.sys.datasync(f), f.Close())
	}
	if err != nil {
		x.hub.log.Warn("index of partials not durable", "error", err)
	}
}

// read returns the directories of the index with the time of their last line.
func (x *index) read() (map[indexed]time.Time, error) {
	f, err := os.Open(x.path)
	if err != nil {
		if isNotExist(err) {
			return nil, nil
		}
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return readIndex(f)
}

func readIndex(r io.Reader) (map[indexed]time.Time, error) {
	dirs := map[indexed]time.Time{}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var l indexLine
		if json.Unmarshal(lines.Bytes(), &l) != nil {
			continue // torn by a crash
		}
		root, err1 := strconv.Unquote(l.Root)
		dir, err2 := strconv.Unquote(l.Dir)
		if err1 != nil || err2 != nil {
			continue
		}
		k, at := indexed{root, dir}, time.Unix(l.Unix, 0)
		if at.After(dirs[k]) {
			dirs[k] = at
		}
	}
	return dirs, lines.Err()
}

// shrink rewrites the index without the lines that useless says. Who appends
// meanwhile waits for the lock, and then finds the new file.
func (x *index) shrink(ctx context.Context, useless func(indexed, time.Time) bool) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	f, err := x.open(ctx, false)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	dirs, err := readIndex(f)
	if err != nil {
		return err
	}
	var text []byte
	dropped := 0
	for k, at := range dirs {
		if useless(k, at) {
			delete(x.seen, k)
			dropped++
			continue
		}
		text = append(text, x.line(k, at)...)
	}
	if dropped == 0 {
		return nil
	}
	return x.replace(text)
}

func (x *index) replace(text []byte) error {
	tmp := x.path + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, x.path); err != nil {
		return err
	}
	return nil
}
