package tcpd

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"transferd/protocol"
)

// A Certificate is what the server shows in TLS. It says nothing about who the
// server is, which the host key proves inside of it; joining streams know it by
// its key.
type Certificate struct {
	tls tls.Certificate
	key [sha256.Size]byte
}

// NewCertificate makes a key that lives as long as the process, and signs it
// with itself.
func NewCertificate() (*Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a TLS key: %w", err)
	}
	// Clients look at nothing but the key, so there is nothing to say. Dates
	// cannot be left out; these suit a clock that is wrong.
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Unix(0, 0),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make a TLS certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make a TLS certificate: %w", err)
	}
	return &Certificate{
		tls: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf},
		key: sha256.Sum256(leaf.RawSubjectPublicKeyInfo),
	}, nil
}

// TLSKey returns the SHA-256 of the SubjectPublicKeyInfo, which WELCOME tells to
// clients that are logged in.
func (c *Certificate) TLSKey() [32]byte { return c.key }

// errALPN: the client does not speak this protocol.
var errALPN = errors.New("the client did not offer " + protocol.ALPN + " and nothing else")

// A tlsServer is the TLS side of all connections.
type tlsServer = *tls.Config

func newTLSServer(c *Certificate) tlsServer {
	return &tls.Config{
		Certificates: []tls.Certificate{c.tls},
		MinVersion:   tls.VersionTLS13,
		NextProtos:   []string{protocol.ALPN},
		ClientAuth:   tls.NoClientCert,

		// A session that is taken up again would not need the private key, and
		// its exporter would depend on an earlier one.
		SessionTicketsDisabled: true,

		// Small records first would help a browser to show something soon; here
		// they cost system calls.
		DynamicRecordSizingDisabled: true,

		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			// Where none of the names is ours, crypto/tls has a better alert.
			if names := hello.SupportedProtos; len(names) == 0 || len(names) > 1 && slices.Contains(names, protocol.ALPN) {
				return nil, errALPN
			}
			return nil, nil //nolint:nilnil // means that the Config stays as it is
		},
	}
}
