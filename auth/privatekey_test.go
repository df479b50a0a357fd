package auth

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// keySorts are the keys that ssh-keygen makes and people have.
func keySorts() [][]string {
	return [][]string{
		{"-t", "ed25519"},
		{"-t", "ecdsa", "-b", "256"},
		{"-t", "ecdsa", "-b", "384"},
		{"-t", "ecdsa", "-b", "521"},
		{"-t", "rsa", "-b", "2048"},
	}
}

func TestReadsKeysOfSSHKeygen(t *testing.T) {
	for _, sort := range keySorts() {
		for _, format := range []string{"RFC4716", "PEM", "PKCS8"} {
			if sort[1] == "ed25519" && format != "RFC4716" {
				continue // ssh-keygen writes it in its own format whatever is asked
			}
			for _, passphrase := range []string{"", "open sesame"} {
				name := fmt.Sprintf("%s/%s/%q", strings.Join(sort, ""), format, passphrase)
				t.Run(name, func(t *testing.T) {
					path := in(t.TempDir(), "key")
					args := append([]string{"-q", "-N", passphrase, "-C", "a comment", "-a", "3", "-f", path}, sort...)
					if format != "RFC4716" {
						args = append(args, "-m", format)
					}
					keygen(t, args...)
					data := []byte(read(t, path))
					if got, want := IsLocked(data), passphrase != ""; got != want {
						t.Errorf("IsLocked = %v, want %v", got, want)
					}
					if passphrase != "" {
						if _, err := ParsePrivateKey(data, []byte("wrong")); !errors.Is(err, ErrPassphrase) {
							t.Errorf("ParsePrivateKey with a wrong passphrase: %v, want ErrPassphrase", err)
						}
					}
					key, err := ParsePrivateKey(data, []byte(passphrase))
					if err != nil {
						t.Fatal(err)
					}
					pub, err := key.Public()
					if err != nil {
						t.Fatal(err)
					}
					pub.Comment = "a comment" // PEM and PKCS #8 have none
					if diff := cmp.Diff(read(t, path+".pub"), pub.String()+"\n"); diff != "" {
						t.Errorf("public key (-ssh-keygen +ours):\n%s", diff)
					}
					if format == "RFC4716" && key.Comment != "a comment" {
						t.Errorf("comment = %q", key.Comment)
					}
					signer, err := key.Signer()
					if err != nil {
						t.Fatal(err)
					}
					checkSignature(t, signer)
				})
			}
		}
	}
}

func TestReadsEveryCipherOfSSHKeygen(t *testing.T) {
	for _, name := range []string{"aes128-ctr", "aes192-ctr", "aes256-ctr", "aes128-cbc", "aes192-cbc", "aes256-cbc", "aes128-gcm@openssh.com", "aes256-gcm@openssh.com"} {
		t.Run(name, func(t *testing.T) {
			path := in(t.TempDir(), "key")
			keygen(t, "-q", "-t", "ed25519", "-N", "secret", "-a", "2", "-Z", name, "-f", path)
			data := []byte(read(t, path))
			if _, err := ParsePrivateKey(data, []byte("secret")); err != nil {
				t.Errorf("ParsePrivateKey: %v", err)
			}
			if _, err := ParsePrivateKey(data, []byte("wrong")); !errors.Is(err, ErrPassphrase) {
				t.Errorf("ParsePrivateKey with a wrong passphrase: %v, want ErrPassphrase", err)
			}
		})
	}
}

func TestSSHKeygenReadsOurKeys(t *testing.T) {
	for _, sort := range []struct {
		kind string
		bits int
	}{{"ed25519", 0}, {"ecdsa", 256}, {"ecdsa", 384}, {"ecdsa", 521}, {"rsa", 2048}} {
		for _, passphrase := range []string{"", "open sesame"} {
			t.Run(fmt.Sprintf("%s-%d/%q", sort.kind, sort.bits, passphrase), func(t *testing.T) {
				path := in(t.TempDir(), "key")
				key, err := GenerateKey(sort.kind, sort.bits, "made by us")
				if err != nil {
					t.Fatal(err)
				}
				if err := WriteKeyPair(path, key, []byte(passphrase), 4, false); err != nil {
					t.Fatal(err)
				}
				if got, want := keygen(t, "-y", "-P", passphrase, "-f", path), read(t, path+".pub"); got != want {
					t.Errorf("ssh-keygen -y = %q, want %q", got, want)
				}
				pub, _ := key.Public()
				bits := pub.Bits()
				if got, want := keygen(t, "-l", "-f", path), fmt.Sprintf("%d %s made by us (%s)\n", bits, pub.Fingerprint(), pub.Kind()); got != want {
					t.Errorf("ssh-keygen -l = %q, want %q", got, want)
				}
				if got, want := keygen(t, "-l", "-E", "md5", "-f", path), pub.FingerprintMD5(); !strings.Contains(got, want) {
					t.Errorf("ssh-keygen -l -E md5 = %q, want %q", got, want)
				}
				if passphrase == "" {
					return
				}
				if err := RewritePrivateKey(path, key, []byte("another"), 2); err != nil {
					t.Fatal(err)
				}
				if got, want := keygen(t, "-y", "-P", "another", "-f", path), read(t, path+".pub"); got != want {
					t.Errorf("ssh-keygen -y after the change = %q, want %q", got, want)
				}
			})
		}
	}
}

func TestKeyPairFiles(t *testing.T) {
	path := in(t.TempDir(), "key")
	key, _, _ := newKey(t, "c")
	if err := WriteKeyPair(path, key, nil, 0, false); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{path: 0o600, path + ".pub": 0o644} {
		info, err := os.Stat(name)
		if err != nil || info.Mode() != want {
			t.Errorf("%s has mode %v (%v), want %v", name, info.Mode(), err, want)
		}
	}
	before := read(t, path)
	if err := WriteKeyPair(path, key, nil, 0, false); !errors.Is(err, fs.ErrExist) {
		t.Errorf("WriteKeyPair over a key = %v, want ErrExist", err)
	}
	if read(t, path) != before {
		t.Error("the key was replaced without leave")
	}
	other, _, _ := newKey(t, "c")
	if err := WriteKeyPair(path, other, nil, 0, true); err != nil {
		t.Fatal(err)
	}
	if read(t, path) == before {
		t.Error("the key was not replaced")
	}
	entries, err := os.ReadDir(in(path, ".."))
	if err != nil || len(entries) != 2 {
		t.Errorf("%d files are left (%v), want 2", len(entries), err)
	}
}

func TestParsePrivateKeyRefuses(t *testing.T) {
	dsa := "-----BEGIN DSA PRIVATE KEY-----\nMIIB\n-----END DSA PRIVATE KEY-----\n"
	for name, text := range map[string]string{
		"empty": "", "text": "hello", "putty": "PuTTY-User-Key-File-3: ssh-ed25519\n", "dsa": dsa,
		"large": strings.Repeat("x", maxKeyFile+1), "public": "ssh-ed25519 AAAA",
	} {
		if key, err := ParsePrivateKey([]byte(text), nil); err == nil || errors.Is(err, ErrPassphrase) {
			t.Errorf("%s: ParsePrivateKey = %v, %v, want an error", name, key, err)
		}
	}
}

func TestGenerateKeyRefuses(t *testing.T) {
	for _, c := range []struct {
		kind string
		bits int
	}{{"dsa", 0}, {"ecdsa", 255}, {"rsa", 768}, {"rsa", 16384}, {"", 0}} {
		if _, err := GenerateKey(c.kind, c.bits, ""); err == nil {
			t.Errorf("GenerateKey(%q, %d) succeeds", c.kind, c.bits)
		}
	}
}

func FuzzParsePrivateKey(f *testing.F) {
	key, _, _ := newKey(f, "seed")
	for _, passphrase := range []string{"", "x"} {
		data, err := key.Marshal([]byte(passphrase), 1)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		key, err := ParsePrivateKey(data, nil)
		if err == nil {
			if _, err := key.Marshal(nil, 0); err != nil {
				t.Errorf("a key that was read cannot be written: %v", err)
			}
		}
		_, _ = PublicOf(data)
	})
}
