package tcpd

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/crypto/ssh"

	"transferd/auth"
	"transferd/internal/transport/native"
	"transferd/protocol"
)

// A hostKey is one algorithm that the host can prove itself by.
type hostKey struct {
	algorithm string
	signer    ssh.Signer
	public    []byte
}

// newHostKey returns what signer can do, the best first: an RSA key signs in
// two ways, and neither is ssh-rsa.
func newHostKey(signer ssh.Signer) ([]hostKey, error) {
	key := signer.PublicKey()
	public := key.Marshal()
	names := map[string][]string{
		ssh.KeyAlgoRSA:     {ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256},
		ssh.CertAlgoRSAv01: {ssh.CertAlgoRSASHA512v01, ssh.CertAlgoRSASHA256v01},
	}
	algorithms, isRSA := names[key.Type()]
	if !isRSA {
		return []hostKey{{key.Type(), signer, public}}, nil
	}
	as, ok := signer.(ssh.AlgorithmSigner)
	if !ok {
		return nil, fmt.Errorf("the host key %s signs with SHA-1 alone", auth.Fingerprint(key))
	}
	multi, bound := signer.(ssh.MultiAlgorithmSigner)
	var keys []hostKey
	for i, algorithm := range names[ssh.KeyAlgoRSA] {
		if bound && !slices.Contains(multi.Algorithms(), algorithm) {
			continue
		}
		one, err := ssh.NewSignerWithAlgorithms(as, []string{algorithm})
		if err != nil {
			return nil, fmt.Errorf("use the host key %s: %w", auth.Fingerprint(key), err)
		}
		keys = append(keys, hostKey{algorithms[i], one, public})
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("the host key %s signs with SHA-1 alone", auth.Fingerprint(key))
	}
	return keys, nil
}

// Proof implements native.Gatekeeper.
func (v *visit) Proof(_ context.Context, algorithms []string, message func(key []byte) []byte) (key, signature []byte, err error) {
	for _, k := range v.server.hostKeys {
		if !slices.Contains(algorithms, k.algorithm) {
			continue
		}
		signature, err = auth.SignMessage(k.signer, protocol.NamespaceHost, message(k.public))
		if err != nil {
			return nil, nil, fmt.Errorf("prove the host key: %w", err)
		}
		v.waitForPerson()
		return k.public, signature, nil
	}
	return nil, nil, &native.Refusal{Code: protocol.CodeNoHostKey, Message: "the server has no host key of the algorithms that you know"}
}
