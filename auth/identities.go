package auth

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
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
// passphrase. The only error is that ctx has ended.
func Identities(ctx context.Context, o IdentityOptions) ([]*Identity, error) {
	warn := o.Warn
	if warn == nil {
		warn = func(error) {}
	}
	var held []*Identity
	if o.Agent != nil {
		var err error
		if held, err = o.Agent.Identities(ctx); err != nil {
			if ctx.Err() != nil {
				return nil, fmt.Errorf("find the identities: %w", context.Cause(ctx))
			}
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
	return unique(slices.Concat(picked, others, files)), nil
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
