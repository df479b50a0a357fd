package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"golang.org/x/crypto/ssh"
)

// An Identity is one key, or certificate, that a client can offer. It is safe
// for concurrent use.
type Identity struct {
	// Name says where it comes from: a path, or the comment in the agent.
	Name string

	// Public is the key or certificate as the server gets to see it. Nil: only
	// the passphrase reveals it (locked PEM files without a .pub beside them).
	Public ssh.PublicKey

	file *keyFile // nil: not a file
	sign signFunc
}

// A signFunc signs data with one of the algorithms of its key.
type signFunc func(ctx context.Context, rand io.Reader, data []byte, algorithm string) (*ssh.Signature, error)

// Signer returns what signs for the identity, until ctx ends. A locked key
// file asks for its passphrase only when the first signature is wanted, which
// is when a server has said that it would accept the key; the signature fails
// with ErrPassphrase if nobody can unlock it. If Public is nil it has to ask at
// once.
func (i *Identity) Signer(ctx context.Context) (ssh.Signer, error) {
	public := i.Public
	if public == nil {
		signer, err := i.file.open(ctx)
		if err != nil {
			return nil, err
		}
		public = signer.PublicKey()
	}
	return &lazySigner{ctx: ctx, public: public, sign: i.sign}, nil
}

// A lazySigner is an ssh.MultiAlgorithmSigner that knows its public key before
// its private one.
type lazySigner struct {
	ctx    context.Context // ssh.Signer has no place for it
	public ssh.PublicKey
	sign   signFunc
}

func (s *lazySigner) PublicKey() ssh.PublicKey { return s.public }

func (s *lazySigner) Algorithms() []string {
	if t := plainType(s.public); t != ssh.KeyAlgoRSA {
		return []string{t}
	}
	return []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
}

func (s *lazySigner) Sign(rand io.Reader, data []byte) (*ssh.Signature, error) {
	return s.SignWithAlgorithm(rand, data, s.Algorithms()[0])
}

func (s *lazySigner) SignWithAlgorithm(rand io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	return s.sign(s.ctx, rand, data, algorithm)
}

// A keyFile is a private key file, which is decrypted once and only when
// needed.
type keyFile struct {
	path   string
	data   []byte
	public ssh.PublicKey // nil: not known yet
	ask    AskFunc

	mu     sync.Mutex // held while the person is asked, so that nobody is asked twice
	signer ssh.Signer
	err    error // why it cannot be opened, for good
}

// tries is how often a passphrase is asked for, as NumberOfPasswordPrompts.
const tries = 3

// LoadIdentity reads the private key file at path, of any format of OpenSSH.
// Like ssh it refuses one that others can read. The public key comes from the
// file itself, else from path.pub. ask may be nil: then a locked key fails when
// it is to sign.
func LoadIdentity(path string, ask AskFunc) (*Identity, error) {
	if pub, err := loadPublic(path); err == nil {
		return &Identity{Name: path, Public: pub.Key, sign: signNever(path, "holds only the public key, and the agent has no private key for it")}, nil
	}
	data, err := ReadPrivateKeyFile(path)
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	file := &keyFile{path: path, data: data, ask: ask}
	switch pub, err := PublicOf(data); {
	case err == nil:
		file.public = pub
	case errors.Is(err, ErrPassphrase):
		if pub, err := loadPublic(path + ".pub"); err == nil {
			file.public = pub.Key
		}
	default:
		return nil, fmt.Errorf("identity %s: %w", path, err)
	}
	if file.public != nil && isSecurityKey(file.public) {
		return &Identity{Name: path, Public: file.public, sign: signNever(path, "is the handle of a security key; ssh-add it, for only the agent can use it")}, nil
	}
	return &Identity{Name: path, Public: file.public, file: file, sign: file.sign}, nil
}

// signNever returns a signFunc that says why it cannot.
func signNever(path, why string) signFunc {
	return func(context.Context, io.Reader, []byte, string) (*ssh.Signature, error) {
		return nil, fmt.Errorf("identity %s %s", path, why)
	}
}

// loadPublic reads a .pub file. A certificate comes in one, too.
func loadPublic(path string) (PublicKey, error) {
	data, err := readChecked(path, 0, maxKeyFile, anyone)
	if err != nil {
		return PublicKey{}, fmt.Errorf("public key: %w", err)
	}
	pub, err := ParsePublicKey(firstLine(data))
	if err != nil {
		return PublicKey{}, fmt.Errorf("public key %s: %w", path, err)
	}
	return pub, nil
}

func (f *keyFile) sign(ctx context.Context, rand io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	signer, err := f.open(ctx)
	if err != nil {
		return nil, err
	}
	as, ok := signer.(ssh.AlgorithmSigner)
	if !ok {
		return signer.Sign(rand, data)
	}
	return as.SignWithAlgorithm(rand, data, algorithm)
}

// open returns the signer of the private key, and asks for the passphrase if
// that is locked. A refusal is remembered.
func (f *keyFile) open(ctx context.Context) (ssh.Signer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.signer != nil || f.err != nil {
		return f.signer, f.err
	}
	key, err := f.unlock(ctx)
	if err == nil {
		f.signer, err = key.Signer()
	}
	if err == nil && f.public != nil && !sameKey(f.public, f.signer.PublicKey()) {
		f.signer, err = nil, fmt.Errorf("%s.pub is not its public half", f.path)
	}
	if err != nil {
		err = fmt.Errorf("identity %s: %w", f.path, err)
		if ctx.Err() == nil {
			f.err = err
		}
	}
	return f.signer, err
}

func (f *keyFile) unlock(ctx context.Context) (*PrivateKey, error) {
	key, err := ParsePrivateKey(f.data, nil)
	if !errors.Is(err, ErrPassphrase) {
		return key, err
	}
	if f.ask == nil {
		return nil, err
	}
	for range tries {
		passphrase, err := f.ask(ctx, fmt.Sprintf("Enter passphrase for key '%s': ", f.path))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrPassphrase, err)
		}
		if len(passphrase) == 0 {
			return nil, fmt.Errorf("%w: none was typed", ErrPassphrase)
		}
		key, err := ParsePrivateKey(f.data, passphrase)
		clear(passphrase)
		if !errors.Is(err, ErrPassphrase) {
			return key, err
		}
	}
	return nil, ErrPassphrase
}

// certified returns the identity of the certificate at path, signed for by
// what signs for plain.
func (i *Identity) certified(path string) (*Identity, error) {
	pub, err := loadPublic(path)
	if err != nil {
		return nil, err
	}
	cert, ok := pub.Key.(*ssh.Certificate)
	if !ok {
		return nil, fmt.Errorf("%s: not a certificate", path)
	}
	if i.Public != nil && !sameKey(cert.Key, plainKey(i.Public)) {
		return nil, fmt.Errorf("%s: a certificate of another key", path)
	}
	return &Identity{Name: path, Public: cert, file: i.file, sign: i.sign}, nil
}

func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
