package store

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"transferd/internal/tree"
)

// locksName is the file whose bytes stand for locks. It stays empty.
const locksName = "locks"

// rangeLocks are locks by name between the processes of a machine, and between
// the goroutines of this one: each is one byte, far behind the end of one file,
// so that any number of them leaves nothing to be cleaned up. A lock ends with
// its process, also by a kill. The zero value is ready; its file stays open.
type rangeLocks struct {
	mu   sync.Mutex
	file *os.File
	held map[int64]chan struct{} // closed when the lock is free again
}

// Lock implements tree.Journals.
func (j *journals) Lock(ctx context.Context, key string) (unlock func(), err error) {
	sum := sha256.Sum256([]byte(key))
	at := int64(binary.LittleEndian.Uint64(sum[:]) >> 2)
	r := &j.locks
	if err := r.claim(ctx, at); err != nil {
		return nil, err
	}
	f, err := r.open(j.path)
	if err == nil {
		err = waitLock(ctx, j.hub, f, at)
	}
	if err != nil {
		r.release(at)
		return nil, fmt.Errorf("lock: %w", err)
	}
	return func() {
		unlockByte(f, at)
		r.release(at)
	}, nil
}

// waitLock waits for another process as long as for any lock.
func waitLock(ctx context.Context, h *hub, f *os.File, at int64) error {
	var wait waiting
	for {
		err := lockByte(f, at)
		if isUnsupported(err) {
			h.log.WarnContext(ctx, "filesystem has no locks", "name", f.Name())
			return nil
		}
		if !errors.Is(err, errBusy) {
			return err
		}
		if err := wait.again(ctx, h); errors.Is(err, errBusy) {
			return tree.ErrBusy
		} else if err != nil {
			return err
		}
	}
}

// claim waits until no other goroutine holds the lock at.
func (r *rangeLocks) claim(ctx context.Context, at int64) error {
	for {
		r.mu.Lock()
		free, taken := r.held[at]
		if !taken {
			if r.held == nil {
				r.held = map[int64]chan struct{}{}
			}
			r.held[at] = make(chan struct{})
			r.mu.Unlock()
			return nil
		}
		r.mu.Unlock()
		select {
		case <-free:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (r *rangeLocks) release(at int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.held[at])
	delete(r.held, at)
}

// open returns the file of the locks, which is opened once: closing any handle
// of it would end POSIX locks.
func (r *rangeLocks) open(dir string) (*os.File, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.file != nil {
		return r.file, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err // names the path
	}
	f, err := os.OpenFile(filepath.Join(dir, locksName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err // names the path
	}
	r.file = f
	return f, nil
}
