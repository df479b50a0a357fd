package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"transferd/auth"
	"transferd/config"
	"transferd/internal/admission"
	"transferd/internal/session"
)

// An accounts is who may log in, by the configuration. It implements
// admission.Accounts; newAccounts makes it.
type accounts struct {
	log    *slog.Logger
	stores *stores
	now    atomic.Pointer[directory]

	mu       sync.Mutex
	problems map[string]string // by user: what was logged of the keys last
}

var _ admission.Accounts = (*accounts)(nil)

// A directory is one configuration's users. It does not change.
type directory struct {
	users  map[string]account
	decoy  account // what is looked at for a name that nobody has
	roots  []string
	maxAge time.Duration
}

// An account is one user.
type account struct {
	name        string
	root        string
	permissions session.Permissions
	file        string               // keys are read from here at every login, if not ""
	keys        *auth.AuthorizedKeys // else these
}

func newAccounts(ctx context.Context, c config.Server, log *slog.Logger) (*accounts, error) {
	a := &accounts{
		log:      log,
		stores:   newStores(c.StateDir, log),
		problems: map[string]string{},
	}
	return a, a.set(ctx, c)
}

// set replaces the users; logins that exist keep what they have.
func (a *accounts) set(ctx context.Context, c config.Server) error {
	d := &directory{users: map[string]account{}, maxAge: c.Partials.MaxAge}
	for _, u := range c.Users {
		permissions, err := session.ParsePermissions(u.Permissions)
		if err != nil {
			return fmt.Errorf("user %q: %w", u.Name, err)
		}
		one := account{name: u.Name, root: u.Root, permissions: permissions, file: u.AuthorizedKeysFile}
		if one.file == "" {
			one.keys = inlineKeys(u)
			a.tell(ctx, u.Name, one.keys)
		} else if keys, err := auth.LoadAuthorizedKeys(one.file); err != nil {
			a.log.WarnContext(ctx, "nobody can log in as this user until its keys can be read", "user", u.Name, "err", err)
		} else {
			a.tell(ctx, u.Name, keys)
		}
		d.users[u.Name] = one
		if d.decoy.file == "" {
			d.decoy = one
		}
		if !slices.Contains(d.roots, u.Root) {
			d.roots = append(d.roots, u.Root)
		}
	}
	a.now.Store(d)
	return nil
}

// Keys implements admission.Accounts. Files are read each time, so that a key that
// was taken out cannot log in any more.
func (a *accounts) Keys(ctx context.Context, user string) (*auth.AuthorizedKeys, error) {
	d := a.now.Load()
	one, known := d.users[user]
	if !known {
		one = d.decoy // or the time that the answer takes would tell who exists
	}
	keys := one.keys
	if one.file != "" {
		var err error
		if keys, err = auth.LoadAuthorizedKeys(one.file); err != nil {
			keys = nil
			if known {
				return nil, err
			}
		} else {
			a.tell(ctx, one.name, keys)
		}
	}
	if !known {
		return nil, fmt.Errorf("%w: no such user", auth.ErrAuth)
	}
	return keys, nil
}

// tell logs the problems of a user's keys, once until they change.
func (a *accounts) tell(ctx context.Context, user string, keys *auth.AuthorizedKeys) {
	text := ""
	if err := errors.Join(keys.Problems...); err != nil {
		text = err.Error()
	}
	state := text
	if keys.Len() == 0 {
		state = "none: " + text
	}
	a.mu.Lock()
	known := a.problems[user]
	a.problems[user] = state
	a.mu.Unlock()
	switch {
	case state == known:
	case keys.Len() == 0 && text == "":
		a.log.WarnContext(ctx, "nobody can log in as this user: there are no authorized keys", "user", user)
	case keys.Len() == 0:
		a.log.WarnContext(ctx, "nobody can log in as this user: no line of the authorized keys is a key", "user", user, "problems", text)
	case text != "":
		a.log.WarnContext(ctx, "authorized keys that cannot be used", "user", user, "problems", text)
	}
}

// inlineKeys are the keys that the configuration itself lists for u.
func inlineKeys(u config.User) *auth.AuthorizedKeys {
	return auth.ParseAuthorizedKeys("authorized_keys", []byte(strings.Join(u.AuthorizedKeys, "\n")+"\n"))
}

// Open implements admission.Accounts.
func (a *accounts) Open(_ context.Context, l admission.Login) (*session.Session, func() error, error) {
	one, ok := a.now.Load().users[l.User]
	if !ok {
		return nil, nil, fmt.Errorf("%s is no user any more", l.User) // a reload came between
	}
	store, release, err := a.stores.acquire(one.root)
	if err != nil {
		return nil, nil, err
	}
	return session.New(store, session.Login{
		User:           one.name,
		Permissions:    one.permissions,
		KeyFingerprint: l.Grant.Fingerprint,
		Remote:         l.Remote.String(),
	}), release, nil
}

// sweep removes the expired partials of every root.
func (a *accounts) sweep(ctx context.Context) {
	d := a.now.Load()
	if d.maxAge == 0 {
		return
	}
	for _, root := range d.roots {
		if ctx.Err() != nil {
			return
		}
		n, err := a.sweepRoot(ctx, root, d.maxAge)
		switch {
		case err != nil && ctx.Err() == nil:
			a.log.WarnContext(ctx, "sweep", "root", root, "err", err)
		case n > 0:
			a.log.InfoContext(ctx, "expired partials removed", "root", root, "count", n)
		}
	}
}

func (a *accounts) sweepRoot(ctx context.Context, root string, maxAge time.Duration) (int, error) {
	store, release, err := a.stores.acquire(root)
	if err != nil {
		return 0, err
	}
	n, err := store.Sweep(ctx, maxAge)
	return n, errors.Join(err, release())
}

// close closes what is open; no login may be left.
func (a *accounts) close() error { return a.stores.close() }
