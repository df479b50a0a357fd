package auth

import (
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// An Agent is the ssh-agent at an address. Every question to it is a connection
// of its own, so that one that waits for a touch blocks nobody, ends with its
// context, and a restarted agent is found again. It is safe for concurrent use.
// Whoever dialed it closes it.
type Agent struct {
	address string

	mu     sync.Mutex
	conns  map[net.Conn]struct{} // where a question is under way
	closed bool
}

// DialAgent returns the agent at address, which AgentAddress tells. It is an
// error if nobody answers there.
func DialAgent(ctx context.Context, address string) (*Agent, error) {
	conn, err := dialAgent(ctx, address)
	if err != nil {
		return nil, fmt.Errorf("ssh-agent: %w", err)
	}
	_ = conn.Close() // nothing was written that could be lost
	return &Agent{address: address, conns: make(map[net.Conn]struct{})}, nil
}

// Close ends what is still asked of the agent with net.ErrClosed, and every
// later question.
func (a *Agent) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	for conn := range a.conns {
		_ = conn.Close() // nobody waits for what it would still say
	}
	return nil
}

// AgentAddress says where the agent is: setting is ssh_config's IdentityAgent
// ("": SSH_AUTH_SOCK; "none"; "SSH_AUTH_SOCK"; "$NAME"; a path, maybe below ~).
// "" means that there is none.
func AgentAddress(setting string, lookup func(string) (string, bool), home string) string {
	name := "SSH_AUTH_SOCK"
	switch {
	case setting == "none":
		return ""
	case setting == "", setting == name:
	case strings.HasPrefix(setting, "$"):
		name = strings.TrimSuffix(strings.TrimPrefix(setting[1:], "{"), "}")
	case strings.HasPrefix(setting, "~/"):
		return filepath.Join(home, setting[2:])
	default:
		return setting
	}
	if address, ok := lookup(name); ok && address != "" {
		return address
	}
	if setting == "" {
		return defaultAgent
	}
	return ""
}

// do runs f with a connection to the agent, which it cuts when ctx ends.
func (a *Agent) do(ctx context.Context, f func(agent.ExtendedAgent) error) error {
	conn, err := dialAgent(ctx, a.address)
	if err != nil {
		return fmt.Errorf("ssh-agent: %w", err)
	}
	defer func() { _ = conn.Close() }() // nothing was written that could be lost
	if !a.enter(conn) {
		return fmt.Errorf("ssh-agent: %w", net.ErrClosed)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	err = f(agent.NewClient(conn))
	stop()
	closed := a.leave(conn)
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case err != nil && closed:
		err = net.ErrClosed // which is why
	}
	if err != nil {
		return fmt.Errorf("ssh-agent: %w", err)
	}
	return nil
}

// enter notes that conn is in use, unless the agent is closed.
func (a *Agent) enter(conn net.Conn) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return false
	}
	a.conns[conn] = struct{}{}
	return true
}

// leave forgets conn, and reports whether the agent is closed.
func (a *Agent) leave(conn net.Conn) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.conns, conn)
	return a.closed
}

// Identities returns the keys that the agent holds, in its order. Those of a
// kind that we do not know are left out.
func (a *Agent) Identities(ctx context.Context) ([]*Identity, error) {
	var keys []*agent.Key
	err := a.do(ctx, func(client agent.ExtendedAgent) (err error) {
		keys, err = client.List()
		return err
	})
	if err != nil {
		return nil, err
	}
	var ids []*Identity
	for _, k := range keys {
		pub, err := ssh.ParsePublicKey(k.Blob)
		if err != nil || !slices.Contains(userKeyTypes(), plainType(pub)) {
			continue // a kind that no server of today takes from us
		}
		ids = append(ids, &Identity{Name: k.Comment, Public: pub, sign: a.signer(pub)})
	}
	return ids, nil
}

func (a *Agent) signer(pub ssh.PublicKey) signFunc {
	return func(ctx context.Context, _ io.Reader, data []byte, algorithm string) (sig *ssh.Signature, err error) {
		var flags agent.SignatureFlags
		switch algorithm {
		case ssh.KeyAlgoRSASHA256:
			flags = agent.SignatureFlagRsaSha256
		case ssh.KeyAlgoRSASHA512:
			flags = agent.SignatureFlagRsaSha512
		}
		err = a.do(ctx, func(client agent.ExtendedAgent) (err error) {
			sig, err = client.SignWithFlags(pub, data, flags)
			return err
		})
		if err == nil && sig.Format != algorithm {
			err = fmt.Errorf("ssh-agent: signed with %s, not %s", sig.Format, algorithm)
		}
		return sig, err
	}
}

// userKeyTypes are the types of keys that people log in with.
func userKeyTypes() []string {
	return append(ClientAlgorithms().PublicKeyAuths, ssh.KeyAlgoRSA)
}
