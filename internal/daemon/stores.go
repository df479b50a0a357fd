package daemon

import (
	"errors"
	"log/slog"
	"sync"

	"transferd/internal/store"
)

// A stores opens each root once, however many logins share it: uploads of one
// store know each other. A root that nobody uses is closed, so that a disk can
// be taken away and brought back.
type stores struct {
	options store.Options

	mu    sync.Mutex
	roots map[string]*shared
}

// A shared is one open root.
type shared struct {
	users int // guarded by stores.mu

	mu    sync.Mutex // held while opening, which may take long on a bad disk
	store *store.Store
}

func newStores(stateDir string, log *slog.Logger) *stores {
	return &stores{
		options: store.Options{StateDir: stateDir, Log: log},
		roots:   map[string]*shared{},
	}
}

// acquire returns the store of root; the caller calls release.
func (s *stores) acquire(root string) (st *store.Store, release func() error, err error) {
	s.mu.Lock()
	one := s.roots[root]
	if one == nil {
		one = &shared{}
		s.roots[root] = one
	}
	one.users++
	s.mu.Unlock()

	one.mu.Lock()
	defer one.mu.Unlock()
	if one.store == nil {
		if one.store, err = store.Open(root, s.options); err != nil {
			one.store = nil
			return nil, nil, errors.Join(err, s.release(root, one))
		}
	}
	return one.store, sync.OnceValue(func() error { return s.release(root, one) }), nil
}

// release closes the store of root when nobody uses it any more.
func (s *stores) release(root string, one *shared) error {
	s.mu.Lock()
	one.users--
	last := one.users == 0
	if last && s.roots[root] == one {
		delete(s.roots, root)
	}
	s.mu.Unlock()
	if !last || one.store == nil {
		return nil
	}
	return one.store.Close()
}

// close closes what logins have left that never came to their end.
func (s *stores) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, one := range s.roots {
		if one.store != nil {
			errs = append(errs, one.store.Close())
		}
	}
	clear(s.roots)
	return errors.Join(errs...)
}
