package auth

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/des" //nolint:gosec // files that exist are locked with it
	"crypto/pbkdf2"
	"crypto/sha1" //nolint:gosec // files that exist are locked with it
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"hash"
)

// The parts of PKCS #8 (RFC 5958) and PKCS #5 (RFC 8018) that openssl, and with
// it ssh-keygen -m PKCS8, writes. The standard library reads only keys that
// have no passphrase.
type (
	encryptedPKCS8 struct {
		Algorithm pkix.AlgorithmIdentifier
		Data      []byte
	}
	pbes2 struct {
		KDF, Scheme pkix.AlgorithmIdentifier
	}
	pbkdf2Params struct {
		Salt       []byte
		Iterations int
		KeyLength  int                      `asn1:"optional"`
		PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
	}
)

// maxIterations bounds what a file can make us compute: some seconds.
const maxIterations = 10_000_000

// openPKCS8 decrypts an "ENCRYPTED PRIVATE KEY" to a "PRIVATE KEY".
func openPKCS8(der, passphrase []byte) ([]byte, error) {
	if len(passphrase) == 0 {
		return nil, errLocked
	}
	var (
		e      encryptedPKCS8
		scheme pbes2
		params pbkdf2Params
		iv     []byte
	)
	if err := unmarshalDER(der, &e); err != nil {
		return nil, err
	}
	if id := e.Algorithm.Algorithm.String(); id != "1.2.840.113549.1.5.13" {
		return nil, fmt.Errorf("unknown encryption %s of a PKCS #8 key", id)
	}
	if err := unmarshalDER(e.Algorithm.Parameters.FullBytes, &scheme); err != nil {
		return nil, err
	}
	if id := scheme.KDF.Algorithm.String(); id != "1.2.840.113549.1.5.12" {
		return nil, fmt.Errorf("unknown key derivation %s of a PKCS #8 key", id)
	}
	if err := unmarshalDER(scheme.KDF.Parameters.FullBytes, &params); err != nil {
		return nil, err
	}
	if err := unmarshalDER(scheme.Scheme.Parameters.FullBytes, &iv); err != nil {
		return nil, err
	}
	if params.Iterations < 1 || params.Iterations > maxIterations {
		return nil, fmt.Errorf("a PKCS #8 key with %d iterations; up to %d are taken", params.Iterations, maxIterations)
	}
	block, err := pbes2Cipher(scheme.Scheme.Algorithm.String(), params, passphrase)
	if err != nil {
		return nil, err
	}
	if len(iv) != block.BlockSize() || len(e.Data) == 0 || len(e.Data)%block.BlockSize() != 0 {
		return nil, errors.New("a PKCS #8 key of odd length")
	}
	clear := make([]byte, len(e.Data))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(clear, e.Data)
	pad := int(clear[len(clear)-1])
	if pad == 0 || pad > block.BlockSize() {
		return nil, ErrPassphrase
	}
	for _, b := range clear[len(clear)-pad:] {
		if int(b) != pad {
			return nil, ErrPassphrase
		}
	}
	return clear[:len(clear)-pad], nil
}

func pbes2Cipher(scheme string, params pbkdf2Params, passphrase []byte) (cipher.Block, error) {
	prf, err := pbkdf2Hash(params.PRF)
	if err != nil {
		return nil, err
	}
	size, make3DES := 0, false
	switch scheme {
	case "2.16.840.1.101.3.4.1.2":
		size = 16
	case "2.16.840.1.101.3.4.1.22":
		size = 24
	case "2.16.840.1.101.3.4.1.42":
		size = 32
	case "1.2.840.113549.3.7":
		size, make3DES = 24, true
	default:
		return nil, fmt.Errorf("unknown cipher %s of a PKCS #8 key", scheme)
	}
	key, err := pbkdf2.Key(prf, string(passphrase), params.Salt, params.Iterations, size)
	if err != nil {
		return nil, fmt.Errorf("derive the key of a PKCS #8 file: %w", err)
	}
	if make3DES {
		return des.NewTripleDESCipher(key) //nolint:gosec // files that exist are locked with it
	}
	return aes.NewCipher(key)
}

func pbkdf2Hash(prf pkix.AlgorithmIdentifier) (func() hash.Hash, error) {
	switch id := prf.Algorithm.String(); id {
	case "", "1.2.840.113549.2.7": // SHA-1 is what an absent one means
		return sha1.New, nil
	case "1.2.840.113549.2.9":
		return sha256.New, nil
	case "1.2.840.113549.2.10":
		return sha512.New384, nil
	case "1.2.840.113549.2.11":
		return sha512.New, nil
	default:
		return nil, fmt.Errorf("unknown hash %s of a PKCS #8 key", id)
	}
}

func unmarshalDER(der []byte, into any) error {
	if rest, err := asn1.Unmarshal(der, into); err != nil || len(rest) > 0 {
		return fmt.Errorf("a PKCS #8 key that cannot be read: %w", errors.Join(err, trailing(rest)))
	}
	return nil
}

func trailing(rest []byte) error {
	if len(rest) == 0 {
		return nil
	}
	return fmt.Errorf("%d bytes too many", len(rest))
}
