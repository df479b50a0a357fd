package auth

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// IdentityOptions says which identities a client has.
type IdentityOptions struct {
	// Files are private key files, in the order to try. A public key alone,
	// there or in file.pub, picks the agent's key. A certificate in
	// file-cert.pub is offered before its key.
	Files []string

	Only  bool    // IdentitiesOnly: of the agent's keys only those that Files pick
	Agent *Agent  // nil: none
	Ask   AskFunc // nil: locked keys cannot sign

	// Warn is told of what cannot be used, and why; may be nil. A file that
	// does not exist is worth a word only if Named: a person named it.
	Warn  func(error)
	Named bool
}

// Identities returns the identities in the order in which ssh tries them:
// keys of the agent that Files pick, the agent's other keys, then Files. A key
// that the agent and a file have is signed for by the agent, which needs no
// passphrase.
func Identities(ctx context.Context, o IdentityOptions) []*Identity {
	warn := o.Warn
	if warn == nil {
		warn = func(error) {}
	}
	var held []*Identity
	if o.Agent != nil {
		var err error
		if held, err = o.Agent.Identities(ctx); err != nil {
			warn(err)
		}
	}
	var picked, others, files []*Identity
	taken := make(map[*Identity]bool)
	for _, path := range o.Files {
		id, err := loadAny(path, o.Ask)
		if err != nil {
			if o.Named || !missing(err) {
				warn(err)
			}
			continue
		}
		inAgent := false
		for _, have := range held {
			if id.Public != nil && sameKey(plainKey(have.Public), plainKey(id.Public)) {
				taken[have] = true
				picked = append(picked, have)
				if sameKey(have.Public, id.Public) { // and not only a certificate of it
					inAgent, id.sign = true, have.sign
				}
			}
		}
		switch cert, err := id.certified(path + "-cert.pub"); {
		case err == nil && inAgent:
			picked = slices.Insert(picked, 0, cert)
		case err == nil:
			files = append(files, cert)
		case !missing(err):
			warn(err)
		}
		if !inAgent {
			files = append(files, id)
		}
	}
	if !o.Only {
		for _, id := range held {
			if !taken[id] {
				others = append(others, id)
			}
		}
	}
	return unique(slices.Concat(picked, others, files))
}

// loadAny reads the private key file at path or, if only that is there, the
// public key beside it.
func loadAny(path string, ask AskFunc) (*Identity, error) {
	id, err := LoadIdentity(path, ask)
	if !missing(err) {
		return id, err
	}
	pub, pubErr := loadPublic(path + ".pub")
	if pubErr != nil {
		return nil, err
	}
	return &Identity{Name: path + ".pub", Public: pub.Key, sign: signNever(path, "does not exist, and the agent has no private key for its .pub")}, nil
}

// unique drops identities that a server would see a second time.
func unique(ids []*Identity) []*Identity {
	seen := make(map[string]bool)
	return slices.DeleteFunc(ids, func(id *Identity) bool {
		if id.Public == nil {
			return false
		}
		key := string(id.Public.Marshal())
		defer func() { seen[key] = true }()
		return seen[key]
	})
}

// maxOffers is how many identities are offered at most. x/crypto gives up after
// 64 attempts, and something should be left for passwords.
const maxOffers = 48

// PublicKeyLogin returns a callback for ssh.ClientConfig.AuthCallback that
// offers the identities one after the other, so that one that cannot be
// unlocked does not end the login. It serves one handshake. When no identity
// is left it returns nil, which turns to ClientConfig.Auth; so that should hold
// no public keys. warn, which may be nil, is told of keys that failed to sign.
func PublicKeyLogin(ctx context.Context, ids []*Identity, warn func(error)) ssh.ClientAuthCallback {
	if warn == nil {
		warn = func(error) {}
	}
	left := ids[:min(len(ids), maxOffers)]
	return func(c *ssh.ClientAuthContext) (ssh.AuthMethod, error) {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("log in: %w", context.Cause(ctx))
		}
		if !slices.Contains(c.AllowedMethods, "publickey") {
			return nil, nil // x/crypto goes on with ClientConfig.Auth
		}
		for len(left) > 0 {
			id := left[0]
			left = left[1:]
			told := &Identity{Name: id.Name, Public: id.Public, file: id.file, sign: telling(id.sign, warn)}
			signer, err := told.Signer(ctx)
			if err != nil {
				warn(err)
				continue
			}
			return ssh.PublicKeys(signer), nil
		}
		return nil, nil // x/crypto goes on with ClientConfig.Auth
	}
}

// DefaultIdentityFiles returns the names that ssh tries by itself.
func DefaultIdentityFiles(home string) []string {
	var files []string
	for _, name := range []string{"id_ed25519", "id_ed25519_sk", "id_ecdsa", "id_ecdsa_sk", "id_rsa"} {
		files = append(files, filepath.Join(home, ".ssh", name))
	}
	return files
}

func firstLine(data []byte) string {
	line, _, _ := strings.Cut(string(data), "\n")
	return strings.TrimRight(line, "\r")
}

// telling returns sign, whose errors warn gets to hear: x/crypto keeps them to
// itself when another method follows.
func telling(sign signFunc, warn func(error)) signFunc {
	return func(ctx context.Context, rand io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
		sig, err := sign(ctx, rand, data, algorithm)
		if err != nil {
			warn(err)
		}
		return sig, err
	}
}
