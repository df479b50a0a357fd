package auth

import (
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"slices"

	"golang.org/x/crypto/blowfish" //nolint:staticcheck // bcrypt is made of it
)

const bcryptBlock = 32 // bytes that one bcryptHash gives

// bcryptKDF derives size bytes from a passphrase as OpenBSD's bcrypt_pbkdf
// does. x/crypto has it too, but keeps it internal and its rounds fixed.
func bcryptKDF(passphrase, salt []byte, rounds, size int) ([]byte, error) {
	blocks := (size + bcryptBlock - 1) / bcryptBlock
	key := make([]byte, blocks*bcryptBlock)
	pass := sha512.Sum512(passphrase)
	for block := range blocks {
		counted := binary.BigEndian.AppendUint32(append([]byte(nil), salt...), uint32(block)+1)
		seed := sha512.Sum512(counted)
		out, err := bcryptHash(pass[:], seed[:])
		if err != nil {
			return nil, err
		}
		last := out
		for range rounds - 1 {
			seed = sha512.Sum512(last[:])
			if last, err = bcryptHash(pass[:], seed[:]); err != nil {
				return nil, err
			}
			for i, b := range last {
				out[i] ^= b
			}
		}
		// The blocks are interleaved, so that nobody can derive only a part of
		// the key at a lower price.
		for i, b := range out {
			key[i*blocks+block] = b
		}
	}
	return key[:size], nil
}

func bcryptHash(pass, salt []byte) (out [bcryptBlock]byte, err error) {
	c, err := blowfish.NewSaltedCipher(pass, salt)
	if err != nil {
		return out, fmt.Errorf("set up blowfish: %w", err)
	}
	for range 64 {
		blowfish.ExpandKey(salt, c)
		blowfish.ExpandKey(pass, c)
	}
	copy(out[:], "OxychromaticBlowfishSwatDynamite")
	for i := 0; i < len(out); i += blowfish.BlockSize {
		for range 64 {
			c.Encrypt(out[i:i+blowfish.BlockSize], out[i:i+blowfish.BlockSize])
		}
	}
	for i := 0; i < len(out); i += 4 { // the C code writes its words little endian
		slices.Reverse(out[i : i+4])
	}
	return out, nil
}
