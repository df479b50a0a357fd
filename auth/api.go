package auth

import (
	"context"
	"crypto"
	"errors"
	"net"
	"net/netip"
	"time"

	"golang.org/x/crypto/ssh"
)

var errSoon = errors.New("not built yet")

// --- client: identities

// An Identity is one key, or certificate, that a client can offer.
type Identity struct {
	// Name says where it comes from: a path, or the comment in the agent.
	Name string

	// Public is the key or certificate as the server gets to see it. Nil: only
	// the passphrase reveals it (PEM files without a .pub beside them).
	Public ssh.PublicKey
}

// Signer returns what signs for the identity. A locked key file asks for its
// passphrase only when the first signature is wanted, which is when a server
// has said that it would accept the key; then the signature fails with
// ErrPassphrase if nobody can unlock it.
func (i *Identity) Signer(ctx context.Context) (ssh.Signer, error) { return nil, errSoon }

// LoadIdentity reads the private key file at path, of any format of OpenSSH.
func LoadIdentity(path string, ask AskFunc) (*Identity, error) { return nil, errSoon }

// IdentityOptions says which identities a client has.
type IdentityOptions struct {
	Files []string // private keys, in the order to try; certificates beside them are found
	Only  bool     // IdentitiesOnly: of the agent's keys only those that are in Files
	Agent *Agent   // nil: none
	Ask   AskFunc  // nil: locked keys cannot be used

	// Warn is told of a file that cannot be used, and why. A file that does
	// not exist is not worth a word, unless Named says that a person named it.
	Warn  func(error)
	Named bool
}

// Identities returns the identities in the order in which ssh tries them:
// keys of the agent that are in Files too, the agent's other keys, then Files.
func Identities(ctx context.Context, o IdentityOptions) ([]*Identity, error) { return nil, errSoon }

// PublicKeyLogin returns a callback for ssh.ClientConfig.AuthCallback that
// offers the identities one after the other, so that one that cannot be
// unlocked does not end the login. It serves one handshake. When no identity
// is left it returns nil, which turns to ClientConfig.Auth.
func PublicKeyLogin(ctx context.Context, ids []*Identity, warn func(error)) ssh.ClientAuthCallback {
	return func(*ssh.ClientAuthContext) (ssh.AuthMethod, error) { return nil, errSoon }
}

// DefaultIdentityFiles returns the names that ssh tries by itself.
func DefaultIdentityFiles(home string) []string { return nil }

// --- client: agent

// An Agent is a connection to ssh-agent. Whoever dialed it closes it.
type Agent struct{}

// AgentAddress says where the agent is: setting is ssh_config's IdentityAgent
// ("": SSH_AUTH_SOCK; "none"; "SSH_AUTH_SOCK"; "$NAME"; a path). "" means that
// there is none.
func AgentAddress(setting string, lookup func(string) (string, bool), home string) string { return "" }

// DialAgent connects to the agent at address.
func DialAgent(ctx context.Context, address string) (*Agent, error) { return nil, errSoon }

// Close ends the connection.
func (a *Agent) Close() error { return errSoon }

// --- client: hosts

// A Policy says what becomes of a host that known_hosts does not know.
type Policy uint8

// The policies.
const (
	PolicyAsk       Policy = iota // ask the person
	PolicyAcceptNew               // take and remember the key of a new host
	PolicyStrict                  // only hosts that are known
	PolicyOff                     // take anything but a revoked key; remember new ones
)

// ParsePolicy reads the name of a policy: ours (ask, accept-new, strict, off)
// or that of ssh's StrictHostKeyChecking (yes, no).
func ParsePolicy(s string) (Policy, error) { return 0, errSoon }

// HostKeys decides which server is trusted, by known_hosts files. Files must
// be set unless Policy is PolicyOff. It is safe for concurrent use, also of the
// same files by other processes.
type HostKeys struct {
	Files  []string // user's and system's; the first gets new entries
	Policy Policy
	Hash   bool             // HashKnownHosts: new entries do not show the name
	Ask    ConfirmFunc      // needed by PolicyAsk; without it PolicyAsk is strict
	Warn   func(msg string) // for the person; may be nil
	Now    func() time.Time // for certificates; nil: time.Now
}

// A Trust says why a host key was accepted.
type Trust uint8

// The kinds of trust.
const (
	TrustNone       Trust = iota
	TrustKnown            // known_hosts has the key, or the authority that signed it
	TrustNew              // it is the first time that we see it
	TrustOverridden       // PolicyOff let a changed key pass: never send a password
)

// Algorithms returns the host key algorithms to offer to the server at addr
// (host:port): those that known_hosts has keys for come first, so that a server
// with several keys shows the one we know.
func (h *HostKeys) Algorithms(addr string) ([]string, error) { return nil, errSoon }

// Check decides about the key that the server at addr (host:port) proved to
// hold. The error wraps ErrHostKey and says what the person can do.
func (h *HostKeys) Check(ctx context.Context, addr string, key ssh.PublicKey) (Trust, error) {
	return TrustNone, errSoon
}

// Callback returns Check as ssh.ClientConfig wants it.
func (h *HostKeys) Callback(ctx context.Context) ssh.HostKeyCallback {
	return func(addr string, _ net.Addr, key ssh.PublicKey) error {
		_, err := h.Check(ctx, addr, key)
		return err
	}
}

// --- server

// AuthorizedKeys are the keys that may log in to one account. It is immutable.
type AuthorizedKeys struct {
	// Problems are the lines that cannot be used, each with its place and
	// reason, for a log.
	Problems []error
}

// ParseAuthorizedKeys reads data, the contents of an authorized_keys file; name
// is what to call it in messages.
func ParseAuthorizedKeys(name string, data []byte) *AuthorizedKeys { return nil }

// LoadAuthorizedKeys reads the file at path. As sshd does, it refuses one that
// others can write.
func LoadAuthorizedKeys(path string) (*AuthorizedKeys, error) { return nil, errSoon }

// A LoginRequest is what a server knows of a client that offers a key.
type LoginRequest struct {
	User   string
	Key    ssh.PublicKey // a key or a certificate
	Remote netip.Addr
	Now    time.Time
}

// A Grant is the right to log in, with what it is bound to.
type Grant struct {
	Fingerprint string // of the key, SHA256:…
	Source      string // file:line that grants it
	Comment     string // of that line

	// Of a certificate: its id, serial and the fingerprint of its authority.
	KeyID     string
	Serial    uint64
	Authority string

	ForceCommand string   // "" none; only this may be run
	Environment  []string // NAME=value
	PermitOpen   []string // where local forwarding may lead; nil: anywhere
	PermitListen []string // where remote forwarding may listen; nil: anywhere
	Tunnel       string

	PTY, PortForwarding, AgentForwarding, X11Forwarding, UserRC bool

	// NoTouchRequired: a security key need not have been touched. The server
	// passes it on in ssh.Permissions.Extensions.
	NoTouchRequired bool

	// Expires is when the key or certificate stops to be valid; zero: never.
	Expires time.Time
}

// Authorize decides whether the request may log in. It says nothing about
// whether the client holds the private key. A refusal wraps ErrAuth and gives
// the reason, which is for the log and not for the client.
func (a *AuthorizedKeys) Authorize(r LoginRequest) (Grant, error) { return Grant{}, errSoon }

// LoadHostKey reads a server's private key. It must not have a passphrase, and
// nobody else may be able to read it.
func LoadHostKey(path string) (ssh.Signer, error) { return nil, errSoon }

// LoadOrCreateHostKey reads the key at path, or makes an ed25519 key there if
// there is none; created says so.
func LoadOrCreateHostKey(path string) (key ssh.Signer, created bool, err error) {
	return nil, false, errSoon
}

// --- keys

// Fingerprint returns SHA256:… of key, or of the key that it certifies.
func Fingerprint(key ssh.PublicKey) string { return ssh.FingerprintSHA256(plainKey(key)) }

// A PrivateKey is a key with its comment.
type PrivateKey struct {
	Key     crypto.PrivateKey
	Comment string
}
