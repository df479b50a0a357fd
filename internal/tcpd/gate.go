package tcpd

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"transferd/auth"
	"transferd/internal/admission"
	"transferd/internal/session"
	"transferd/internal/transport/native"
	"transferd/protocol"
)

var (
	_ native.Gatekeeper = (*visit)(nil)

	// errKey: what was offered is no key, or of no kind that is taken.
	errKey = errors.New("not a key that is taken")
)

// Offer implements native.Gatekeeper. It proves nothing, and so opens nothing.
// The account is looked up once for all keys, whether there is one or not.
func (v *visit) Offer(ctx context.Context, user string, keys [][]byte) (uint32, error) {
	known, err := v.server.accounts.Keys(ctx, user)
	if err != nil {
		v.log.DebugContext(ctx, "keys offered", "user", admission.Short(user), "remote", v.remote, "reason", admission.Brief(err))
		known = &auth.AuthorizedKeys{}
	}
	now := time.Now()
	var bits uint32
	for n, blob := range keys {
		key, err := parseKey(blob)
		if err == nil {
			_, err = known.Authorize(v.request(user, key, now))
		}
		if err == nil {
			bits |= 1 << n
		}
	}
	return bits, nil
}

// Prove implements native.Gatekeeper.
func (v *visit) Prove(ctx context.Context, user string, key, signature, message []byte) (native.Guest, error) {
	login, err := v.judge(ctx, user, key, signature, message)
	if err != nil {
		name := "none"
		if public, err := parseKey(key); err == nil {
			name = auth.Fingerprint(public)
		}
		v.mu.Lock()
		v.refused = &admission.Refusal{User: user, Key: name, Reason: err}
		v.mu.Unlock()
		v.log.DebugContext(ctx, "key refused", "user", admission.Short(user), "key", name, "reason", admission.Brief(err))
		if errors.Is(err, admission.ErrForced) {
			return native.Guest{}, &native.Refusal{Code: protocol.CodeRestricted, Message: admission.ErrForced.Error(), Err: err}
		}
		return native.Guest{}, &native.Refusal{Code: protocol.CodeAuth, Message: "this key does not log in as that user", Err: err}
	}
	return v.open(ctx, login)
}

// judge finds out whether the client holds key, and then what that opens. Only
// the second depends on the user, and nothing that depends on the user is said
// to anybody who could not prove the first.
func (v *visit) judge(ctx context.Context, user string, blob, signature, message []byte) (Login, error) {
	key, err := parseKey(blob)
	if err != nil {
		return Login{}, fmt.Errorf("%w: %w", auth.ErrAuth, err)
	}
	presence, err := auth.VerifyMessage(key, protocol.NamespaceUser, message, signature)
	if err != nil {
		return Login{}, fmt.Errorf("%w: %w", auth.ErrAuth, err)
	}
	known, err := v.server.accounts.Keys(ctx, user)
	if err != nil {
		return Login{}, err
	}
	grant, err := known.Authorize(v.request(user, key, time.Now()))
	if err != nil {
		return Login{}, err
	}
	if err := grant.CheckPresence(key, presence); err != nil {
		return Login{}, err
	}
	login := Login{User: user, Remote: v.remote, Key: key, Grant: grant}
	if err := login.Files(); err != nil {
		return Login{}, fmt.Errorf("%w: %w", auth.ErrAuth, err)
	}
	return login, nil
}

func (v *visit) request(user string, key ssh.PublicKey, now time.Time) auth.LoginRequest {
	return auth.LoginRequest{User: user, Key: key, Remote: v.remote.Addr(), Now: now, SeesPresence: true}
}

// open makes the session of login.
func (v *visit) open(ctx context.Context, login Login) (native.Guest, error) {
	tree, release, err := v.server.accounts.Open(ctx, login)
	if err != nil {
		v.log.ErrorContext(ctx, "open the session", "user", login.User, "err", err)
		return native.Guest{}, &native.Refusal{
			Code:    protocol.CodeFailure,
			Message: "the directory of this account cannot be opened: ask who runs this server to look into its log",
		}
	}
	done := sync.OnceFunc(func() {
		if err := release(); err != nil {
			v.log.WarnContext(ctx, "close the session", "user", login.User, "err", err)
		}
	})
	v.mu.Lock()
	v.login, v.done = login, done
	v.mu.Unlock()
	return native.Guest{
		User:     login.User,
		Tree:     tree,
		Home:     ".",
		Confined: true,
		ReadOnly: tree.Login().Permissions&(session.Write|session.Delete) == 0,
		Admit:    admission.Again(context.WithoutCancel(ctx), v.server.accounts, login),
		Done:     done,
	}, nil
}

// parseKey reads a key or certificate of a kind that people log in with.
func parseKey(blob []byte) (ssh.PublicKey, error) {
	key, err := ssh.ParsePublicKey(blob)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errKey, err)
	}
	if !auth.LogsIn(key) {
		return nil, fmt.Errorf("%w: %q", errKey, key.Type())
	}
	return key, nil
}
