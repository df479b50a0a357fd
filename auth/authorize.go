package auth

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// A LoginRequest is what a server knows of a client that offers a key.
type LoginRequest struct {
	User   string
	Key    ssh.PublicKey // a key or a certificate
	Remote netip.Addr
	Now    time.Time // its location is what expiry-time without Z means

	// SeesPresence: the server sees for itself what a security key says of the
	// person, and asks Grant.CheckPresence (VerifyMessage). x/crypto's SSH
	// server cannot.
	SeesPresence bool
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

	// ForceCommand, unless empty, is the only thing that may be run, whatever
	// the client asks for.
	ForceCommand string
	Environment  []string // NAME=value
	PermitOpen   []string // where local forwarding may lead; nil: anywhere
	PermitListen []string // where remote forwarding may listen; nil: anywhere
	Tunnel       string

	PTY, PortForwarding, AgentForwarding, X11Forwarding, UserRC bool

	// NoTouchRequired: a security key need not have been touched. The server
	// passes it on as the ssh.Permissions extension of that name.
	NoTouchRequired bool

	// VerifyRequired: the key is a security key and must have asked for a PIN or a finger. It
	// is granted only to a server that sees whether it has.
	VerifyRequired bool

	// Expires is when the key or certificate stops to be valid; zero: never.
	Expires time.Time
}

// NoTouchRequiredExtension is how x/crypto is told of Grant.NoTouchRequired.
const NoTouchRequiredExtension = "no-touch-required"

// Authorize decides whether the request may log in. It says nothing about
// whether the client holds the private key. A refusal wraps ErrAuth and gives
// the reason, which is for the log and not for the client.
func (a *AuthorizedKeys) Authorize(r LoginRequest) (Grant, error) {
	cert, isCert := r.Key.(*ssh.Certificate)
	var reasons []error
	for _, e := range a.entries {
		if isCert != e.options.authority {
			continue
		}
		var (
			g   Grant
			err error
		)
		switch {
		case isCert && sameKey(e.key, cert.SignatureKey):
			g, err = e.grantCertificate(r, cert)
		case !isCert && sameKey(e.key, r.Key):
			g, err = e.options.grant(r)
		default:
			continue
		}
		if err == nil {
			g.Source, g.Comment = e.source, e.comment
			return g, nil
		}
		reasons = append(reasons, fmt.Errorf("%s: %w", e.source, err))
	}
	if len(reasons) == 0 {
		reasons = append(reasons, errors.New("no entry has the key"))
	}
	return Grant{}, fmt.Errorf("%w: user %q, %s key %s: %w", ErrAuth, r.User, kindOf(r.Key), Fingerprint(r.Key), errors.Join(reasons...))
}

func (e keyEntry) grantCertificate(r LoginRequest, cert *ssh.Certificate) (Grant, error) {
	principal, err := userPrincipal(cert, r.User, e.options.principals)
	if err != nil {
		return Grant{}, err
	}
	if err := checkCertificate(cert, ssh.UserCert, principal, r.Now); err != nil {
		return Grant{}, err
	}
	own, err := certificateOptions(cert)
	if err != nil {
		return Grant{}, err
	}
	if own.hasFrom && !own.from.matches(r.Remote) {
		return Grant{}, fmt.Errorf("certificate %q is not valid from %s", cert.KeyId, r.Remote)
	}
	own.hasFrom = false
	if own.noTouch && !e.options.noTouch && isSecurityKey(cert) && !r.SeesPresence {
		// x/crypto takes the certificate's word alone for it, and shows nobody
		// whether the key was touched.
		return Grant{}, errors.New("no-touch-required stands in the certificate and not on the line, so the certificate is not used")
	}
	both, err := e.options.and(own)
	if err != nil {
		return Grant{}, err
	}
	g, err := both.grant(r)
	if err != nil {
		return Grant{}, err
	}
	g.KeyID, g.Serial, g.Authority = cert.KeyId, cert.Serial, Fingerprint(cert.SignatureKey)
	if end := time.Unix(int64(min(cert.ValidBefore, 1<<40)), 0); cert.ValidBefore != ssh.CertTimeInfinity && (g.Expires.IsZero() || end.Before(g.Expires)) {
		g.Expires = end
	}
	return g, nil
}

// userPrincipal returns the name in cert that stands for user: the user's own,
// or one of those that principals= allows. A certificate that names nobody is
// for nobody, not for everybody.
func userPrincipal(cert *ssh.Certificate, user string, allowed []string) (string, error) {
	if allowed == nil {
		allowed = []string{user}
	}
	for _, name := range cert.ValidPrincipals {
		if name != "" && slices.Contains(allowed, name) {
			return name, nil
		}
	}
	return "", fmt.Errorf("certificate %q is for %s, not for %s", cert.KeyId, quoteAll(cert.ValidPrincipals), quoteAll(allowed))
}

func quoteAll(names []string) string {
	if len(names) == 0 {
		return "nobody"
	}
	return fmt.Sprintf("%q", names)
}

// grant decides about a key with these options.
func (o keyOptions) grant(r LoginRequest) (Grant, error) {
	if o.hasFrom && !o.from.matches(r.Remote) {
		return Grant{}, fmt.Errorf("from= does not allow %s", r.Remote)
	}
	g := Grant{
		Fingerprint:  Fingerprint(r.Key),
		ForceCommand: o.command,
		Environment:  o.env,
		PermitOpen:   o.open,
		PermitListen: o.listen,
		Tunnel:       o.tunnel,

		PTY:             o.pty,
		PortForwarding:  o.portForwarding,
		AgentForwarding: o.agentForwarding,
		X11Forwarding:   o.x11Forwarding,
		UserRC:          o.userRC,
		NoTouchRequired: o.noTouch,
		VerifyRequired:  o.verify && isSecurityKey(r.Key),
	}
	for _, e := range o.expires {
		if end := e.in(r.Now.Location()); g.Expires.IsZero() || end.Before(g.Expires) {
			g.Expires = end
		}
	}
	if !g.Expires.IsZero() && !r.Now.Before(g.Expires) {
		return Grant{}, fmt.Errorf("the key has expired on %s", g.Expires.Format(time.RFC3339))
	}
	if o.hasCommand && strings.TrimSpace(o.command) == "" {
		return Grant{}, errors.New("command= is empty, so there is nothing that the key may do")
	}
	if o.verify && isSecurityKey(r.Key) && !r.SeesPresence {
		// x/crypto shows nobody the flags of a signature, so that we cannot tell
		// whether the person gave a PIN. On other keys sshd ignores it too.
		return Grant{}, errors.New("verify-required cannot be checked here, so the key is not used")
	}
	return g, nil
}

func isSecurityKey(key ssh.PublicKey) bool {
	t := plainType(key)
	return t == ssh.KeyAlgoSKED25519 || t == ssh.KeyAlgoSKECDSA256
}

// and returns what both the line of the authority and the certificate allow.
func (o keyOptions) and(c keyOptions) (keyOptions, error) {
	both := o
	both.pty = o.pty && c.pty
	both.portForwarding = o.portForwarding && c.portForwarding
	both.agentForwarding = o.agentForwarding && c.agentForwarding
	both.x11Forwarding = o.x11Forwarding && c.x11Forwarding
	both.userRC = o.userRC && c.userRC
	both.noTouch = o.noTouch && c.noTouch
	both.verify = o.verify || c.verify
	if c.hasCommand {
		if o.hasCommand && o.command != c.command {
			return both, errors.New("the forced commands of the certificate and of the line differ")
		}
		both.command, both.hasCommand = c.command, true
	}
	return both, nil
}
