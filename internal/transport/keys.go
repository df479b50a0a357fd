package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/crypto/ssh"

	"transferd/auth"
)

// A candidate is one key or certificate that can be offered.
type candidate struct {
	name   string
	public ssh.PublicKey // nil: only the passphrase reveals it
	signer func(ctx context.Context) (ssh.Signer, error)
}

// identities returns the keys to offer: those named with -i, then in ssh's
// order. They are looked for once.
func (v *server) identities(ctx context.Context) ([]*candidate, error) {
	if v.keys != nil {
		return v.keys, nil
	}
	if address := auth.AgentAddress(v.s.agent, os.LookupEnv, v.home); address != "" && v.agent == nil {
		var err error
		if v.agent, err = auth.DialAgent(ctx, address); err != nil {
			v.agent = nil
			v.log.DebugContext(ctx, "no agent", "address", address, "reason", err)
		}
	}
	// The question belongs to the handshake that needs the answer, which need
	// not be the one that found the key.
	ask := func(ctx context.Context, prompt string) ([]byte, error) {
		return v.asker.passphrase(ctx, prompt)
	}
	warn := func(err error) { v.log.WarnContext(ctx, "a key cannot be used", "reason", err) }
	found := []*candidate{}
	for _, o := range []auth.IdentityOptions{
		{Files: v.s.named, Only: true, Named: true},
		{Files: v.s.identities, Only: v.s.identitiesOnly},
	} {
		o.Agent, o.Ask, o.Warn = v.agent, ask, warn
		ids, err := auth.Identities(ctx, o)
		if err != nil {
			return nil, fmt.Errorf("find keys: %w", err)
		}
		for _, id := range ids {
			found = append(found, &candidate{name: id.Name, public: id.Public, signer: id.Signer})
		}
	}
	v.keys = uniqueKeys(append(certified(v.s.certificates, found, warn), found...))
	return v.keys, nil
}

// certified returns the certificates in files, signed for by the keys that they
// certify.
func certified(files []string, keys []*candidate, warn func(error)) []*candidate {
	var all []*candidate
	for _, file := range files {
		cert, err := loadCertificate(file)
		if err != nil {
			warn(err)
			continue
		}
		for _, key := range keys {
			if key.public == nil || string(key.public.Marshal()) != string(cert.Key.Marshal()) {
				continue
			}
			all = append(all, &candidate{name: file, public: cert, signer: func(ctx context.Context) (ssh.Signer, error) {
				signer, err := key.signer(ctx)
				if err != nil {
					return nil, err
				}
				return ssh.NewCertSigner(cert, signer)
			}})
			break
		}
	}
	return all
}

// maxCertificate bounds a certificate file.
const maxCertificate = 1 << 20

func loadCertificate(file string) (*ssh.Certificate, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxCertificate))
	err = errors.Join(err, f.Close())
	if err != nil {
		return nil, fmt.Errorf("certificate %s: %w", file, err)
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey(text)
	if err != nil {
		return nil, fmt.Errorf("certificate %s: %w", file, err)
	}
	cert, ok := key.(*ssh.Certificate)
	if !ok {
		return nil, fmt.Errorf("certificate %s: it holds a plain key", file)
	}
	return cert, nil
}

// uniqueKeys drops what a server would see a second time.
func uniqueKeys(all []*candidate) []*candidate {
	seen := map[string]bool{}
	kept := []*candidate{}
	for _, key := range all {
		if key.public != nil {
			blob := string(key.public.Marshal())
			if seen[blob] {
				continue
			}
			seen[blob] = true
		}
		kept = append(kept, key)
	}
	return kept
}

// describeKey names a public key for people.
func describeKey(key ssh.PublicKey) string {
	kind := strings.TrimPrefix(key.Type(), "ssh-")
	return kind + " " + auth.Fingerprint(key)
}

// watchedSigner tells what came of each signature.
type watchedSigner struct {
	ssh.MultiAlgorithmSigner
	done func(error)
}

// watchSigner returns a signer like s that calls done after each signature.
func watchSigner(s ssh.Signer, done func(error)) (ssh.Signer, error) {
	multi, ok := s.(ssh.MultiAlgorithmSigner)
	if !ok {
		algorithms := []string{underlying(s.PublicKey())}
		as, ok := s.(ssh.AlgorithmSigner)
		if !ok {
			return nil, fmt.Errorf("its signer cannot choose an algorithm")
		}
		if algorithms[0] == ssh.KeyAlgoRSA {
			algorithms = []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
		}
		var err error
		if multi, err = ssh.NewSignerWithAlgorithms(as, algorithms); err != nil {
			return nil, fmt.Errorf("use the key: %w", err)
		}
	}
	return &watchedSigner{MultiAlgorithmSigner: multi, done: done}, nil
}

func underlying(key ssh.PublicKey) string {
	if cert, ok := key.(*ssh.Certificate); ok {
		return cert.Key.Type()
	}
	return key.Type()
}

// SignWithAlgorithm implements ssh.AlgorithmSigner.
func (w *watchedSigner) SignWithAlgorithm(rand io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	sig, err := w.MultiAlgorithmSigner.SignWithAlgorithm(rand, data, algorithm)
	w.done(err)
	return sig, err
}
