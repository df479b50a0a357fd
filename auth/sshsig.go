package auth

import (
	"bytes"
	"crypto/rand"
	"crypto/sha512"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/crypto/ssh"
)

// Signatures of messages, as OpenSSH's PROTOCOL.sshsig has them, in binary and
// without armor. The namespace keeps a signature for one purpose from standing
// for another, and what SSH's own login signs begins differently.

const (
	sshsigMagic   = "SSHSIG"
	sshsigVersion = 1
	sshsigHash    = "sha512"

	// maxSSHSIG bounds a signature: an RSA key of 16384 bits and its signature
	// take 4 KiB, a certificate in the place of the key some more.
	maxSSHSIG = 16 << 10
)

// ErrSignature says that a signature is none, or not by the key over the message.
var ErrSignature = errors.New("the signature is wrong")

// An sshsig is a signature as it travels, behind the magic.
type sshsig struct {
	Version   uint32
	PublicKey []byte
	Namespace string
	Reserved  []byte
	Hash      string
	Signature []byte
}

// sshsigData is what the key signs: the message's hash, so that an agent need
// not see all of it.
func sshsigData(namespace string, message []byte) []byte {
	digest := sha512.Sum512(message)
	return append([]byte(sshsigMagic), ssh.Marshal(struct {
		Namespace, Reserved, Hash string
		Digest                    []byte
	}{namespace, "", sshsigHash, digest[:]})...)
}

// SignMessage returns the signature of message by signer. The public key in it
// is the signer's, or the one that the signer's certificate is for. An RSA key
// signs with SHA-512, or SHA-256 if that is all it does.
func SignMessage(signer ssh.Signer, namespace string, message []byte) ([]byte, error) {
	key := plainKey(signer.PublicKey())
	sig, err := signSHA2(signer, sshsigData(namespace, message))
	if err != nil {
		return nil, fmt.Errorf("sign with %s: %w", Fingerprint(key), err)
	}
	if !slices.Contains(messageAlgorithms(key.Type()), sig.Format) {
		return nil, fmt.Errorf("sign with %s: got a signature of type %q", Fingerprint(key), sig.Format)
	}
	return append([]byte(sshsigMagic), ssh.Marshal(sshsig{
		Version:   sshsigVersion,
		PublicKey: key.Marshal(),
		Namespace: namespace,
		Hash:      sshsigHash,
		Signature: ssh.Marshal(sig),
	})...), nil
}

// signSHA2 signs data and takes care that an RSA key does not fall back to
// SHA-1, as the Sign of x/crypto's does.
func signSHA2(signer ssh.Signer, data []byte) (*ssh.Signature, error) {
	if plainType(signer.PublicKey()) != ssh.KeyAlgoRSA {
		return signer.Sign(rand.Reader, data)
	}
	as, ok := signer.(ssh.AlgorithmSigner)
	if !ok {
		return signer.Sign(rand.Reader, data) // whose word is checked
	}
	algorithm := ssh.KeyAlgoRSASHA512
	if multi, ok := signer.(ssh.MultiAlgorithmSigner); ok {
		if have := multi.Algorithms(); !slices.Contains(have, algorithm) && slices.Contains(have, ssh.KeyAlgoRSASHA256) {
			algorithm = ssh.KeyAlgoRSASHA256
		}
	}
	return as.SignWithAlgorithm(rand.Reader, data, algorithm)
}

// messageAlgorithms returns the algorithms that a key of a type may sign
// messages with; none for types that are not taken.
func messageAlgorithms(keyType string) []string {
	if keyType == ssh.KeyAlgoRSA {
		return []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	}
	if slices.Contains(userKeyTypes(), keyType) {
		return []string{keyType}
	}
	return nil
}

// VerifyMessage checks that signature is by key, or by the key that it
// certifies, over message in namespace. An error wraps ErrSignature. What a
// certificate says is not looked at, and neither is whether a security key was
// touched: Presence tells, and it is for the caller to demand it
// (Grant.CheckPresence).
func VerifyMessage(key ssh.PublicKey, namespace string, message, signature []byte) (Presence, error) {
	sig, err := parseSSHSIG(signature)
	if err != nil {
		return Presence{}, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	plain := plainKey(key)
	if !bytes.Equal(sig.PublicKey, plain.Marshal()) && !bytes.Equal(sig.PublicKey, key.Marshal()) {
		return Presence{}, fmt.Errorf("%w: it is by another key than %s", ErrSignature, Fingerprint(key))
	}
	if sig.Namespace != namespace {
		return Presence{}, fmt.Errorf("%w: it is for %q, not for %q", ErrSignature, sig.Namespace, namespace)
	}
	var inner ssh.Signature
	if err := ssh.Unmarshal(sig.Signature, &inner); err != nil {
		return Presence{}, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	if !slices.Contains(messageAlgorithms(plain.Type()), inner.Format) {
		return Presence{}, fmt.Errorf("%w: %q is no algorithm for %s", ErrSignature, inner.Format, plain.Type())
	}
	data := sshsigData(namespace, message)
	if isSecurityKey(plain) {
		presence, err := verifySecurityKey(plain, data, &inner)
		if err != nil {
			return Presence{}, fmt.Errorf("%w: %w", ErrSignature, err)
		}
		return presence, nil
	}
	if len(inner.Rest) > 0 {
		return Presence{}, fmt.Errorf("%w: bytes behind it", ErrSignature)
	}
	if err := plain.Verify(data, &inner); err != nil {
		return Presence{}, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	return Presence{}, nil
}

// parseSSHSIG takes a signature apart. It says nothing about whether it is
// right, but that it is of the one form that is made here.
func parseSSHSIG(data []byte) (sshsig, error) {
	var sig sshsig
	rest, ok := bytes.CutPrefix(data, []byte(sshsigMagic))
	switch {
	case len(data) > maxSSHSIG:
		return sig, fmt.Errorf("%d bytes; up to %d are taken", len(data), maxSSHSIG)
	case !ok:
		return sig, errors.New("no SSHSIG")
	}
	if err := ssh.Unmarshal(rest, &sig); err != nil {
		return sig, err
	}
	switch {
	case sig.Version != sshsigVersion:
		return sig, fmt.Errorf("version %d", sig.Version)
	case len(sig.Reserved) > 0:
		return sig, errors.New("something in the reserved field")
	case sig.Hash != sshsigHash:
		return sig, fmt.Errorf("hash algorithm %q", sig.Hash)
	}
	return sig, nil
}
