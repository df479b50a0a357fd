package sftp

import "math/rand/v2"

// random returns n bytes, the same ones for the same n.
func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}
