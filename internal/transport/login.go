package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"

	"transferd/auth"
)

// maxOffers is how many keys are offered at most: x/crypto gives up after 64
// attempts, and something should be left for passwords.
const maxOffers = 48

// maxPrompts is how often a password is asked for, as in ssh.
const maxPrompts = 3

// memory is what a login found out that the next one to the same account need
// not ask again. It is safe for concurrent use.
type memory struct {
	mu       sync.Mutex
	key      *candidate        // that the server took
	password string            // that the server took
	answers  map[string]string // to prompts of keyboard-interactive
	once     bool              // the next login needs the person again
}

func (m *memory) identity() *candidate {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.key
}

// choose remembers a key that the server wanted a signature of.
func (m *memory) choose(key *candidate) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.key = key
}

func (m *memory) secret() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.password
}

func (m *memory) answer(prompt string) (string, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	answer, ok := m.answers[prompt]
	return answer, ok
}

// repeatable reports whether the login can be done again without the person:
// not with a key that wants to be touched, nor with answers that may be good
// for one time only.
func (m *memory) repeatable() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.once
}

// keep remembers what a successful login used.
func (m *memory) keep(l *login) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.once = l.once
	if l.signed != nil {
		m.key = l.signed
	}
	if l.typed != "" {
		m.password = l.typed
	}
	if len(l.replies) > 0 {
		m.answers = l.replies
	}
}

// A login proves to one server, in one handshake, who we are.
type login struct {
	s     settings
	asker *asker
	log   *slog.Logger
	mem   *memory
	again bool // only what mem knows; nobody is asked

	// identities finds the keys to offer. It is called once the server says
	// that it wants keys, so that one that wants none opens no agent.
	identities func(ctx context.Context) ([]*candidate, error)

	alive   func() bool // false: the connection has ended
	trusted bool        // false: the host may be anybody, who gets no password

	ids     []*candidate
	listed  bool
	tried   []string // what was offered, for the error
	allowed []string // what the server would take
	began   bool
	failed  error // why a method could not be used
	mute    bool  // the person did not answer, and is not asked again

	signed  *candidate // the last one that the server wanted a signature of
	typed   string
	replies map[string]string
	once    bool // something of it cannot be done again unasked
}

// callback is an ssh.ClientAuthCallback: it chooses the next method.
func (l *login) callback(ctx context.Context) ssh.ClientAuthCallback {
	return func(c *ssh.ClientAuthContext) (ssh.AuthMethod, error) {
		l.began = true
		l.allowed = c.AllowedMethods
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		if !l.alive() {
			return nil, io.ErrUnexpectedEOF // or the person would be asked in vain
		}
		if m := l.publicKey(ctx); m != nil {
			return m, nil
		}
		return l.secretMethod(ctx, c.TriedMethods), nil
	}
}

// publicKey returns the method that offers the next key, nil if there is none.
func (l *login) publicKey(ctx context.Context) ssh.AuthMethod {
	if !l.s.pubkey || !slices.Contains(l.allowed, "publickey") {
		return nil
	}
	if !l.listed {
		l.listed = true
		switch key := l.mem.identity(); {
		case key != nil && l.again:
			l.ids = []*candidate{key}
		case !l.again:
			ids, err := l.identities(ctx)
			if err != nil {
				l.failed = err
			}
			l.ids = ids[:min(len(ids), maxOffers)]
		}
	}
	for len(l.ids) > 0 {
		id := l.ids[0]
		l.ids = l.ids[1:]
		signer, err := id.signer(ctx)
		if err != nil {
			l.note(id.name)
			l.failed = err
			continue
		}
		name := id.name + " (" + describeKey(signer.PublicKey()) + ")"
		l.note(name)
		l.log.DebugContext(ctx, "offering a key", "key", name)
		watched, err := watchSigner(signer, func(err error) {
			if err != nil {
				l.failed = err
				return
			}
			l.log.DebugContext(ctx, "the server wants a signature of the key", "key", name)
			l.signed = id
			l.once = strings.HasPrefix(signer.PublicKey().Type(), "sk-")
		})
		if err != nil {
			l.failed = fmt.Errorf("%s: %w", id.name, err)
			continue
		}
		return ssh.PublicKeys(watched)
	}
	return nil
}

// secretMethod returns a method that needs a person, or what a person said
// before; nil: there is none left.
func (l *login) secretMethod(ctx context.Context, tried []string) ssh.AuthMethod {
	if !l.trusted {
		l.failed = errors.New("its host key has changed, so it gets no password")
		return nil
	}
	times := func(method string) int {
		n := 0
		for _, t := range tried {
			if t == method {
				n++
			}
		}
		return n
	}
	limit := maxPrompts
	if l.again {
		limit = 1
	}
	if !l.s.ask || l.mute {
		return nil
	}
	if l.s.interactive && slices.Contains(l.allowed, "keyboard-interactive") && times("keyboard-interactive") < limit &&
		(!l.again || l.mem.answers != nil) {
		l.note("keyboard-interactive")
		return ssh.KeyboardInteractive(l.challenge(ctx))
	}
	if l.s.password && slices.Contains(l.allowed, "password") && times("password") < limit &&
		(!l.again || l.mem.secret() != "") {
		l.note("password")
		return ssh.PasswordCallback(func() (string, error) {
			if l.again {
				l.typed = l.mem.secret()
				return l.typed, nil
			}
			text, err := l.asker.answer(ctx, l.s.user+"@"+l.s.host+"'s password: ", false)
			if err != nil {
				l.failed, l.mute = err, true
				return "", err
			}
			l.typed = text
			return text, nil
		})
	}
	return nil
}

// challenge answers the questions of keyboard-interactive.
func (l *login) challenge(ctx context.Context) ssh.KeyboardInteractiveChallenge {
	return func(name, instruction string, questions []string, echos []bool) ([]string, error) {
		answers := make([]string, len(questions))
		for i, question := range questions {
			if l.again {
				answer, ok := l.mem.answer(question)
				if !ok {
					l.failed, l.mute = errNobody, true
					return nil, errNobody
				}
				answers[i] = answer
				continue
			}
			text := "(" + l.s.user + "@" + l.s.host + ") " + question
			if i == 0 {
				for _, above := range []string{instruction, name} {
					if above = strings.TrimSpace(above); above != "" {
						text = above + "\n" + text
					}
				}
			}
			answer, err := l.asker.answer(ctx, text, echos[i])
			if err != nil {
				l.failed, l.mute = err, true
				return nil, err
			}
			answers[i] = answer
			if echos[i] || !strings.Contains(strings.ToLower(question), "password") {
				l.once = true // a code, or who knows
				continue
			}
			if l.replies == nil {
				l.replies = map[string]string{}
			}
			l.replies[question] = answer
		}
		return answers, nil
	}
}

func (l *login) note(what string) {
	if !slices.Contains(l.tried, what) {
		l.tried = append(l.tried, what)
	}
}

// refused is the error of a login that did not succeed.
func (l *login) refused(err error) error {
	p := &problem{kind: auth.ErrAuth, text: "log in to " + l.s.label() + ": permission denied"}
	var why []string
	switch {
	case len(l.tried) > 0:
		why = append(why, "tried "+strings.Join(l.tried, ", "))
	case l.listed && len(l.s.named) > 0:
		why = append(why, "no key named with -i can be used")
	default:
		why = append(why, "there was nothing to try")
	}
	if len(l.allowed) > 0 {
		why = append(why, "the server takes "+strings.Join(l.allowed, ", "))
	}
	p.text += " (" + strings.Join(why, "; ") + ")"
	switch {
	case l.failed != nil:
		p.cause = l.failed
	case strings.Contains(err.Error(), "disconnect, reason"):
		p.cause = err
	}
	switch {
	case strings.Contains(err.Error(), "Too many authentication failures"):
		p.hint = "the server gave up before the right key came: name it with -i and add -o IdentitiesOnly=yes"
	case slices.Contains(l.allowed, "publickey") && len(l.tried) == 0 && l.listed && len(l.s.named) > 0:
		p.hint = "name the file of a private key with -i, one that only you can read"
	case slices.Contains(l.allowed, "publickey") && len(l.tried) == 0:
		p.hint = "make a key with `transfer keygen`, and add its .pub file to the authorized_keys of the account on the server"
	case slices.Contains(l.allowed, "publickey"):
		p.hint = "the account's authorized_keys on the server must hold one of these public keys; -i names another key"
	}
	return p
}
