package auth

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// A Policy says what becomes of a host that known_hosts does not know.
type Policy uint8

// The policies. A host whose key has changed is refused by all but PolicyOff,
// one whose key is revoked by all.
const (
	PolicyAsk       Policy = iota // ask the person
	PolicyAcceptNew               // take and remember the key of a new host
	PolicyStrict                  // only hosts that are known
	PolicyOff                     // take and remember anything
)

// ParsePolicy reads the name of a policy: ours (ask, accept-new, strict, off)
// or that of ssh's StrictHostKeyChecking (yes, no).
func ParsePolicy(s string) (Policy, error) {
	switch strings.ToLower(s) {
	case "ask":
		return PolicyAsk, nil
	case "accept-new":
		return PolicyAcceptNew, nil
	case "strict", "yes", "true":
		return PolicyStrict, nil
	case "off", "no", "false":
		return PolicyOff, nil
	}
	return PolicyStrict, fmt.Errorf("%q is none of strict, accept-new, ask, off", s)
}

// HostKeys decides which server is trusted, by known_hosts files, which it
// reads anew for every decision. It is safe for concurrent use, also of the
// same files by other processes; people are asked one question at a time. Do
// not copy it after its first use.
type HostKeys struct {
	Files  []string // the user's and the system's; the first gets new entries
	Policy Policy
	Hash   bool             // HashKnownHosts: new entries do not show the name
	Ask    ConfirmFunc      // needed by PolicyAsk; without it that is PolicyStrict
	Warn   func(msg string) // for the person; may be nil
	Now    func() time.Time // for certificates; nil: time.Now

	mu       sync.Mutex
	accepted map[acceptance]Trust // in this process, in case the file cannot be written
}

type acceptance struct{ name, key string }

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
func (h *HostKeys) Algorithms(addr string) ([]string, error) {
	name, host, err := hostNames(addr)
	if err != nil {
		return nil, err
	}
	lines, err := loadKnownHosts(h.Files)
	if err != nil {
		return nil, err
	}
	all := ClientAlgorithms().HostKeys
	known := func(algorithm string) bool {
		plain, isCert := certifiedAlgorithm(algorithm)
		return slices.ContainsFunc(lines, func(l knownLine) bool {
			if isCert { // whose keys an authority signs, its own type does not tell
				return l.marker == markerAuthority && (l.matches(name) || l.matchesAnyPort(host))
			}
			return l.marker == "" && (l.matches(name) || l.matchesAnyPort(host)) &&
				(l.key.Type() == plain || l.key.Type() == ssh.KeyAlgoRSA && strings.HasPrefix(plain, "rsa-"))
		})
	}
	var first, rest []string
	for _, algorithm := range all {
		if known(algorithm) {
			first = append(first, algorithm)
		} else {
			rest = append(rest, algorithm)
		}
	}
	return append(first, rest...), nil
}

// certifiedAlgorithm returns the algorithm of the key in a certificate
// algorithm.
func certifiedAlgorithm(algorithm string) (plain string, isCert bool) {
	return strings.CutSuffix(algorithm, "-cert-v01@openssh.com")
}

// Callback returns Check as ssh.ClientConfig wants it.
func (h *HostKeys) Callback(ctx context.Context) ssh.HostKeyCallback {
	return func(addr string, _ net.Addr, key ssh.PublicKey) error {
		_, err := h.Check(ctx, addr, key)
		return err
	}
}

// Check decides about the key or certificate that the server at addr
// (host:port) proved to hold. Names are looked up exactly: [host]:port is
// another server than host. The error wraps ErrHostKey and says what the
// person can do.
func (h *HostKeys) Check(ctx context.Context, addr string, key ssh.PublicKey) (Trust, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	name, host, err := hostNames(addr)
	if err != nil {
		return TrustNone, fmt.Errorf("%w: %w", ErrHostKey, err)
	}
	lines, err := loadKnownHosts(h.Files)
	if err != nil {
		return TrustNone, fmt.Errorf("%w: %w", ErrHostKey, err)
	}
	if l := revokedBy(lines, key); l != nil {
		return TrustNone, fmt.Errorf("%w: %s revokes the %s key %s that %s shows; whoever holds it now, do not trust it",
			ErrHostKey, l.place(), kindOf(l.key), Fingerprint(l.key), name)
	}
	if cert, ok := key.(*ssh.Certificate); ok {
		switch known, err := h.checkCertificate(lines, name, host, cert); {
		case err != nil:
			return TrustNone, fmt.Errorf("%w: %s: %w", ErrHostKey, name, err)
		case known:
			return TrustKnown, nil
		}
		key = cert.Key // nobody vouches for it, but it may be known itself
	}
	var others []knownLine // what else known_hosts has for this name
	for _, l := range lines {
		switch {
		case l.marker != "":
		case l.matches(name):
			if sameKey(l.key, key) {
				return TrustKnown, nil
			}
			others = append(others, l)
		case l.matchesAnyPort(host) && sameKey(l.key, key):
			return TrustKnown, nil
		}
	}
	this := acceptance{name, string(key.Marshal())}
	if trust, ok := h.accepted[this]; ok {
		return trust, nil
	}
	trust, err := h.decide(ctx, name, key, lines, others)
	if err != nil {
		return TrustNone, err
	}
	if h.accepted == nil {
		h.accepted = make(map[acceptance]Trust)
	}
	h.accepted[this] = trust
	return trust, nil
}

// revokedBy returns the line that revokes key, or what it is made of. A revoked
// key is so for every host: nothing good can come of it elsewhere.
func revokedBy(lines []knownLine, key ssh.PublicKey) *knownLine {
	keys := []ssh.PublicKey{plainKey(key)}
	if cert, ok := key.(*ssh.Certificate); ok {
		keys = append(keys, cert.SignatureKey)
	}
	for i, l := range lines {
		if l.marker == markerRevoked && slices.ContainsFunc(keys, func(k ssh.PublicKey) bool { return sameKey(k, l.key) }) {
			return &lines[i]
		}
	}
	return nil
}

// checkCertificate reports whether an authority that known_hosts trusts for
// this host has signed cert; if so, cert must also be right.
func (h *HostKeys) checkCertificate(lines []knownLine, name, host string, cert *ssh.Certificate) (known bool, err error) {
	known = slices.ContainsFunc(lines, func(l knownLine) bool {
		return l.marker == markerAuthority && sameKey(l.key, cert.SignatureKey) && (l.matches(name) || l.matchesAnyPort(host))
	})
	if !known {
		return false, nil
	}
	principal, err := hostPrincipal(cert, host)
	if err != nil {
		return false, err
	}
	if len(cert.CriticalOptions) > 0 {
		return false, errCritical
	}
	now := time.Now
	if h.Now != nil {
		now = h.Now
	}
	return true, checkCertificate(cert, ssh.HostCert, principal, now())
}

// decide applies the policy to a key that known_hosts does not have for name;
// others are those that it has.
func (h *HostKeys) decide(ctx context.Context, name string, key ssh.PublicKey, lines, others []knownLine) (Trust, error) {
	if len(others) > 0 {
		err := changed(name, key, others[0])
		if h.Policy != PolicyOff {
			return TrustNone, err
		}
		h.warn("WARNING: " + err.Error() + ". It goes on because host keys are not to be checked.")
		return TrustOverridden, nil
	}
	policy := h.Policy
	if policy == PolicyAsk && h.Ask == nil {
		policy = PolicyStrict
	}
	switch policy {
	case PolicyAcceptNew, PolicyOff:
	case PolicyAsk:
		if err := h.ask(ctx, name, key, lines); err != nil {
			return TrustNone, err
		}
	case PolicyStrict:
		var elsewhere string
		if names := otherNames(key, lines); len(names) > 0 {
			elsewhere = " This key is known by other names: " + strings.Join(names, "; ") + "."
		}
		return TrustNone, fmt.Errorf("%w: %s is not known. It shows the %s key %s.%s %s, then connect once with --host-key-check=ask, or accept-new",
			ErrHostKey, name, kindOf(key), Fingerprint(key), elsewhere, howToCompare(key))
	}
	h.remember(name, key)
	return TrustNew, nil
}

// remember writes an accepted key down. That it cannot is worth a warning, not
// the connection.
func (h *HostKeys) remember(name string, key ssh.PublicKey) {
	if len(h.Files) == 0 {
		return
	}
	if err := remember(h.Files[0], name, key, h.Hash); err != nil {
		h.warn("WARNING: " + err.Error())
		return
	}
	h.warn(fmt.Sprintf("Permanently added '%s' (%s) to the list of known hosts.", name, kindOf(key)))
}

func changed(name string, key ssh.PublicKey, known knownLine) error {
	return fmt.Errorf("%w: THE KEY OF %s HAS CHANGED: it shows %s %s, but %s has %s %s. "+
		"Someone may be standing between you and the server, or the server was set up anew. %s. "+
		"If it is right, forget the old one with: ssh-keygen -R '%s' -f '%s'",
		ErrHostKey, name, kindOf(key), Fingerprint(key), known.place(), kindOf(known.key), Fingerprint(known.key),
		howToCompare(key), name, known.file)
}

func howToCompare(key ssh.PublicKey) string {
	kind := strings.ToLower(kindOf(key))
	return fmt.Sprintf("Compare that with what the server's own administrator sees there (transferd prints it when it starts; for sshd: ssh-keygen -lf /etc/ssh/ssh_host_%s_key.pub)", kind)
}

// ask lets the person decide, with the words of ssh.
func (h *HostKeys) ask(ctx context.Context, name string, key ssh.PublicKey, lines []knownLine) error {
	var b strings.Builder
	fmt.Fprintf(&b, "The authenticity of host '%s' can't be established.\n%s key fingerprint is %s.\n", name, kindOf(key), Fingerprint(key))
	b.WriteString(knownAs(key, lines))
	b.WriteString("Are you sure you want to continue connecting (yes/no/[fingerprint])? ")
	question := b.String()
	for {
		answer, err := h.Ask(ctx, question)
		if err != nil {
			return fmt.Errorf("%w: %s is not known, and nobody said that it is right: %w", ErrHostKey, name, err)
		}
		switch answer = strings.TrimSpace(answer); {
		case strings.EqualFold(answer, "yes"), answer == Fingerprint(key):
			return nil
		case strings.EqualFold(answer, "no"):
			return fmt.Errorf("%w: %s is not known, and you said no", ErrHostKey, name)
		}
		if err := ctx.Err(); err != nil {
			return errors.Join(ErrHostKey, err)
		}
		question = "Please type 'yes', 'no' or the fingerprint: "
	}
}

// maxNames is how many other names of a key are told.
const maxNames = 8

// knownAs tells under which other names known_hosts has key.
func knownAs(key ssh.PublicKey, lines []knownLine) string {
	names := otherNames(key, lines)
	if len(names) == 0 {
		return "This key is not known by any other names.\n"
	}
	return "This host key is known by the following other names/addresses:\n    " + strings.Join(names, "\n    ") + "\n"
}

// otherNames lists where known_hosts has key, with the names that it has there.
func otherNames(key ssh.PublicKey, lines []knownLine) []string {
	var names []string
	for _, l := range lines {
		if l.marker != "" || !sameKey(l.key, key) {
			continue
		}
		hosts := l.hosts
		if l.hashed() {
			hosts = "[hashed name]"
		}
		names = append(names, l.place()+": "+hosts)
	}
	if len(names) > maxNames {
		names = append(names[:maxNames], fmt.Sprintf("(%d more)", len(names)-maxNames))
	}
	return names
}

func (h *HostKeys) warn(msg string) {
	if h.Warn != nil {
		h.Warn(msg)
	}
}
