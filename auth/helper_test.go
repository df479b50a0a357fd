package auth

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"transferd/internal/testpeer"
)

// keygen runs ssh-keygen and returns what it printed.
func keygen(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), testpeer.Need(t, "ssh-keygen"), args...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("ssh-keygen %q: %v\n%s", args, err, out)
	}
	return string(out)
}

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// newKey makes an ed25519 key.
func newKey(t testing.TB, comment string) (*PrivateKey, ssh.Signer, PublicKey) {
	t.Helper()
	key, err := GenerateKey("ed25519", 0, comment)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := key.Signer()
	if err != nil {
		t.Fatal(err)
	}
	pub, err := key.Public()
	if err != nil {
		t.Fatal(err)
	}
	return key, signer, pub
}

// answers returns an AskFunc that gives the answers in turn and counts them.
func answers(n *int, list ...string) AskFunc {
	return func(context.Context, string) ([]byte, error) {
		if *n == len(list) {
			return nil, errors.New("nobody answers")
		}
		*n++
		return []byte(list[*n-1]), nil
	}
}

func checkSignature(t *testing.T, signer ssh.Signer) {
	t.Helper()
	sig, err := signer.Sign(nil, []byte("data"))
	if err != nil {
		t.Errorf("Sign: %v", err)
		return
	}
	if err := plainKey(signer.PublicKey()).Verify([]byte("data"), sig); err != nil {
		t.Errorf("the signature does not verify: %v", err)
	}
	if sig.Format == ssh.KeyAlgoRSA {
		t.Error("signed with SHA-1")
	}
}

func in(dir string, name string) string { return filepath.Join(dir, name) }

func words(s string) []string { return strings.Fields(s) }
