package sshd

import (
	"io"

	"golang.org/x/crypto/ssh"
)

// patient returns key so that shown is called before it signs. That is when the
// client gets to see it, and may have to ask a person, first about the host and
// then for a passphrase or a touch. x/crypto tells of it in no other way.
func patient(key ssh.Signer, shown func()) ssh.Signer {
	switch key := key.(type) {
	case ssh.MultiAlgorithmSigner:
		return patientMulti{key, shown}
	case ssh.AlgorithmSigner:
		return patientAlgorithm{key, shown}
	default:
		return patientPlain{key, shown}
	}
}

type patientPlain struct {
	ssh.Signer
	shown func()
}

func (p patientPlain) Sign(rand io.Reader, data []byte) (*ssh.Signature, error) {
	p.shown()
	return p.Signer.Sign(rand, data)
}

type patientAlgorithm struct {
	ssh.AlgorithmSigner
	shown func()
}

func (p patientAlgorithm) Sign(rand io.Reader, data []byte) (*ssh.Signature, error) {
	p.shown()
	return p.AlgorithmSigner.Sign(rand, data)
}

func (p patientAlgorithm) SignWithAlgorithm(rand io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	p.shown()
	return p.AlgorithmSigner.SignWithAlgorithm(rand, data, algorithm)
}

type patientMulti struct {
	ssh.MultiAlgorithmSigner
	shown func()
}

func (p patientMulti) Sign(rand io.Reader, data []byte) (*ssh.Signature, error) {
	p.shown()
	return p.MultiAlgorithmSigner.Sign(rand, data)
}

func (p patientMulti) SignWithAlgorithm(rand io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	p.shown()
	return p.MultiAlgorithmSigner.SignWithAlgorithm(rand, data, algorithm)
}
