package auth

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// The orders of preference are pinned here, because x/crypto's defaults still
// hold SHA-1 and DSA; what x/crypto no longer counts as secure falls out of
// them by itself.

// ClientAlgorithms returns what a client offers, best first. The host key
// algorithms are to be ordered by HostKeys.Algorithms.
func ClientAlgorithms() ssh.Algorithms {
	return supported(ssh.Algorithms{
		KeyExchanges: []string{
			ssh.KeyExchangeMLKEM768X25519, ssh.KeyExchangeCurve25519,
			ssh.KeyExchangeECDHP256, ssh.KeyExchangeECDHP384, ssh.KeyExchangeECDHP521,
			ssh.KeyExchangeDH16SHA512, ssh.KeyExchangeDH14SHA256, ssh.KeyExchangeDHGEXSHA256,
		},
		// GCM comes first: in Go it is several times as fast as the others.
		Ciphers: []string{
			ssh.CipherAES128GCM, ssh.CipherAES256GCM, ssh.CipherChaCha20Poly1305,
			ssh.CipherAES128CTR, ssh.CipherAES192CTR, ssh.CipherAES256CTR,
		},
	})
}

// ServerAlgorithms returns what a server offers, best first.
func ServerAlgorithms() ssh.Algorithms {
	return supported(ssh.Algorithms{
		// No NIST curves, whose parameters nobody can account for; no group
		// exchange, for which x/crypto has one group only; and not group 16, of
		// which ten strangers a second, who compute nothing themselves, would
		// keep two cores busy (a handshake takes us 0.2 s, with group 14 it is
		// 9 ms and with curve25519 0.3 ms).
		KeyExchanges: []string{
			ssh.KeyExchangeMLKEM768X25519, ssh.KeyExchangeCurve25519, ssh.KeyExchangeDH14SHA256,
		},
		// Stock clients name chacha20 first and the client's order wins, but
		// Go's takes three times the CPU of GCM. So it is not offered.
		Ciphers: []string{
			ssh.CipherAES128GCM, ssh.CipherAES256GCM,
			ssh.CipherAES128CTR, ssh.CipherAES192CTR, ssh.CipherAES256CTR,
		},
	})
}

// supported adds to a what is the same on both sides, and takes away what
// x/crypto does not have.
func supported(a ssh.Algorithms) ssh.Algorithms {
	have := ssh.SupportedAlgorithms()
	keep := func(list, from []string) []string {
		return slices.DeleteFunc(list, func(name string) bool { return !slices.Contains(from, name) })
	}
	return ssh.Algorithms{
		KeyExchanges: keep(a.KeyExchanges, have.KeyExchanges),
		Ciphers:      keep(a.Ciphers, have.Ciphers),
		MACs: keep([]string{
			ssh.HMACSHA256ETM, ssh.HMACSHA512ETM, ssh.HMACSHA256, ssh.HMACSHA512,
		}, have.MACs),
		HostKeys: keep([]string{
			ssh.CertAlgoED25519v01,
			ssh.CertAlgoECDSA256v01, ssh.CertAlgoECDSA384v01, ssh.CertAlgoECDSA521v01,
			ssh.CertAlgoRSASHA512v01, ssh.CertAlgoRSASHA256v01,
			ssh.KeyAlgoED25519,
			ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521,
			ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256,
		}, have.HostKeys),
		PublicKeyAuths: keep([]string{
			ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519,
			ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoSKECDSA256,
			ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256,
		}, have.PublicKeyAuths),
	}
}

// SelectCiphers returns the ciphers that spec asks for, as ssh's -c does: a
// list separated by commas, in order of preference. A leading + appends to the
// client's own list, - takes away from it, ^ puts in front of it. A name that
// is not to be had is an error that lists those that are.
func SelectCiphers(spec string) ([]string, error) {
	have := ClientAlgorithms().Ciphers
	op, names := byte(0), spec
	if spec != "" && strings.ContainsRune("+-^", rune(spec[0])) {
		op, names = spec[0], spec[1:]
	}
	var picked []string
	for name := range strings.SplitSeq(names, ",") {
		if !slices.Contains(have, name) {
			return nil, fmt.Errorf("no cipher %q; choose from %s", name, strings.Join(have, ","))
		}
		if !slices.Contains(picked, name) {
			picked = append(picked, name)
		}
	}
	without := func(list []string) []string {
		return slices.DeleteFunc(slices.Clone(list), func(name string) bool { return slices.Contains(picked, name) })
	}
	switch op {
	case '+':
		return append(have, without(picked)...), nil // all there are is in have already
	case '-':
		left := without(have)
		if len(left) == 0 {
			return nil, fmt.Errorf("%q leaves no cipher", spec)
		}
		return left, nil
	case '^':
		return append(picked, without(have)...), nil
	}
	return picked, nil
}

// withoutSHA1 returns signer restricted to signatures that we make. Without
// it x/crypto offers an RSA key for ssh-rsa, which is SHA-1, too.
func withoutSHA1(signer ssh.Signer) (ssh.Signer, error) {
	as, ok := signer.(ssh.AlgorithmSigner)
	if !ok || plainType(signer.PublicKey()) != ssh.KeyAlgoRSA {
		return signer, nil
	}
	multi, err := ssh.NewSignerWithAlgorithms(as, []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256})
	if err != nil {
		return nil, fmt.Errorf("use an RSA key: %w", err)
	}
	return sha2Signer{multi}, nil
}

// A sha2Signer is an RSA key. Sign of the signer inside would use SHA-1.
type sha2Signer struct{ ssh.MultiAlgorithmSigner }

func (s sha2Signer) Sign(rand io.Reader, data []byte) (*ssh.Signature, error) {
	return s.SignWithAlgorithm(rand, data, ssh.KeyAlgoRSASHA512)
}

// LogsIn reports whether key is of a type that people log in with: not DSA, and
// nothing that is unheard of.
func LogsIn(key ssh.PublicKey) bool { return slices.Contains(userKeyTypes(), plainType(key)) }

// plainType returns the type of key, or of the key that it certifies.
func plainType(key ssh.PublicKey) string {
	if cert, ok := key.(*ssh.Certificate); ok {
		return cert.Key.Type()
	}
	return key.Type()
}

// plainKey returns key, or the key that it certifies.
func plainKey(key ssh.PublicKey) ssh.PublicKey {
	if cert, ok := key.(*ssh.Certificate); ok {
		return cert.Key
	}
	return key
}
