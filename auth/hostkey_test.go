package auth

import (
	"errors"
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"
)

func TestLoadOrCreateHostKey(t *testing.T) {
	path := in(t.TempDir(), "state/host_key")
	var (
		wg     sync.WaitGroup
		mu     sync.Mutex
		made   int
		prints = map[string]bool{}
	)
	for range 6 {
		wg.Go(func() {
			key, created, err := LoadOrCreateHostKey(path)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			prints[Fingerprint(key.PublicKey())] = true
			if created {
				made++
			}
		})
	}
	wg.Wait()
	if made != 1 || len(prints) != 1 {
		t.Errorf("%d keys were made and %d used, want one", made, len(prints))
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v, want 0600", info.Mode(), err)
	}
	if got := keygen(t, "-l", "-f", path); !prints[words(got)[1]] {
		t.Errorf("ssh-keygen -l = %s", got)
	}
}

func TestLoadHostKey(t *testing.T) {
	dir := t.TempDir()
	locked, rsa, loose := in(dir, "locked"), in(dir, "rsa"), in(dir, "loose")
	keygen(t, "-q", "-t", "ed25519", "-N", "secret", "-f", locked)
	keygen(t, "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", rsa)
	keygen(t, "-q", "-t", "ed25519", "-N", "", "-f", loose)
	if err := os.Chmod(loose, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadHostKey(locked); !errors.Is(err, ErrPassphrase) || !strings.Contains(err.Error(), locked) {
		t.Errorf("a locked key: %v", err)
	}
	if _, err := LoadHostKey(loose); err == nil {
		t.Error("a key that everybody can read is taken")
	}
	if _, _, err := LoadOrCreateHostKey(write(t, in(dir, "bad"), "")); err == nil {
		t.Error("an empty file is taken or replaced")
	}
	key, err := LoadHostKey(rsa)
	if err != nil {
		t.Fatal(err)
	}
	for _, algorithm := range key.(ssh.MultiAlgorithmSigner).Algorithms() {
		if algorithm == ssh.KeyAlgoRSA {
			t.Error("an RSA host key offers SHA-1")
		}
	}
}
