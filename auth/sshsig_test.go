package auth

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"transferd/internal/testpeer"
)

const testNamespace = "file@example.com"

// TestVerifyMessageOfOpenSSH reads what ssh-keygen -Y sign has written.
func TestVerifyMessageOfOpenSSH(t *testing.T) {
	message := []byte(read(t, "testdata/sshsig/message"))
	files, err := filepath.Glob("testdata/sshsig/*.sig")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d signatures, %v", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".sig")
		t.Run(name, func(t *testing.T) {
			block, _ := pem.Decode([]byte(read(t, file)))
			if block == nil {
				t.Fatal("no armor")
			}
			pub, err := ParsePublicKey(firstLine([]byte(read(t, strings.TrimSuffix(file, ".sig")+".pub"))))
			if err != nil {
				t.Fatal(err)
			}
			_, err = VerifyMessage(pub.Key, testNamespace, message, block.Bytes)
			if name == "sha256" { // nobody here makes it, so nobody takes it
				if !errors.Is(err, ErrSignature) {
					t.Errorf("VerifyMessage = %v, want ErrSignature", err)
				}
				return
			}
			if err != nil {
				t.Errorf("VerifyMessage: %v", err)
			}
			for what, wrong := range map[string]func() (Presence, error){
				"other namespace": func() (Presence, error) { return VerifyMessage(pub.Key, "file", message, block.Bytes) },
				"other message":   func() (Presence, error) { return VerifyMessage(pub.Key, testNamespace, message[1:], block.Bytes) },
				"a byte behind": func() (Presence, error) {
					return VerifyMessage(pub.Key, testNamespace, message, append(bytes.Clone(block.Bytes), 0))
				},
				"cut short": func() (Presence, error) {
					return VerifyMessage(pub.Key, testNamespace, message, block.Bytes[:len(block.Bytes)-1])
				},
				"other key": func() (Presence, error) {
					_, _, other := newKey(t, "")
					return VerifyMessage(other.Key, testNamespace, message, block.Bytes)
				},
			} {
				if _, err := wrong(); !errors.Is(err, ErrSignature) {
					t.Errorf("%s: %v, want ErrSignature", what, err)
				}
			}
		})
	}
}

// TestTranscriptVectors checks the signatures that docs/protocol.md gives to
// those who write another implementation.
func TestTranscriptVectors(t *testing.T) {
	vectors := map[string][]byte{}
	for line := range strings.Lines(read(t, "../protocol/testdata/transcripts.txt")) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " | ")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		var err error
		if vectors[name], err = hex.DecodeString(value); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ who, suffix, namespace string }{
		{"host", "host", "host-v1@transferd"},
		{"user", "user lab", "user-v1@transferd"},
	} {
		key, err := ssh.ParsePublicKey(vectors[c.who+" key"])
		if err != nil {
			t.Fatal(err)
		}
		message, signature := vectors["message of the "+c.suffix], vectors["signature of the "+c.suffix]
		if _, err := VerifyMessage(key, c.namespace, message, signature); err != nil {
			t.Errorf("%s: %v", c.who, err)
		}
		signer, err := ssh.NewSignerFromKey(ed25519.NewKeyFromSeed(vectors[c.who+" key seed"]))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := SignMessage(signer, c.namespace, message); err != nil || !bytes.Equal(got, signature) {
			t.Errorf("%s: SignMessage = %x, %v, want %x", c.who, got, err, signature)
		}
	}
}

// testSigners returns a key of every kind that can be made without hardware.
func testSigners(t testing.TB) map[string]ssh.Signer {
	t.Helper()
	signers := map[string]ssh.Signer{}
	for name, kind := range map[string]struct {
		kind string
		bits int
	}{
		"ed25519": {"ed25519", 0}, "ecdsa256": {"ecdsa", 256}, "ecdsa384": {"ecdsa", 384}, "ecdsa521": {"ecdsa", 521}, "rsa": {"rsa", 2048},
	} {
		key, err := GenerateKey(kind.kind, kind.bits, name)
		if err != nil {
			t.Fatal(err)
		}
		if signers[name], err = key.Signer(); err != nil {
			t.Fatal(err)
		}
	}
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	signers["rsa of x/crypto"] = plain // whose Sign would use SHA-1
	only256, err := ssh.NewSignerWithAlgorithms(plain.(ssh.AlgorithmSigner), []string{ssh.KeyAlgoRSASHA256})
	if err != nil {
		t.Fatal(err)
	}
	signers["rsa with sha256 alone"] = only256
	for _, name := range []string{"ed25519", "rsa"} {
		cert := &ssh.Certificate{Key: signers[name].PublicKey(), CertType: ssh.UserCert, ValidBefore: ssh.CertTimeInfinity}
		if err := cert.SignCert(rand.Reader, signers["ed25519"]); err != nil {
			t.Fatal(err)
		}
		if signers[name+" certificate"], err = ssh.NewCertSigner(cert, signers[name]); err != nil {
			t.Fatal(err)
		}
	}
	signers["sk-ed25519"] = newSecurityKey(t, ssh.KeyAlgoSKED25519, flagTouched)
	signers["sk-ecdsa"] = newSecurityKey(t, ssh.KeyAlgoSKECDSA256, flagTouched)
	return signers
}

// TestSignMessage also asks ssh-keygen what it thinks of the signatures.
func TestSignMessage(t *testing.T) {
	keygen := testpeer.Need(t, "ssh-keygen")
	message := []byte("a message")
	for name, signer := range testSigners(t) {
		t.Run(name, func(t *testing.T) {
			sig, err := SignMessage(signer, testNamespace, message)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := VerifyMessage(signer.PublicKey(), testNamespace, message, sig); err != nil {
				t.Errorf("VerifyMessage: %v", err)
			}
			dir := t.TempDir()
			armored := pem.EncodeToMemory(&pem.Block{Type: "SSH SIGNATURE", Bytes: sig})
			write(t, in(dir, "sig"), string(armored))
			write(t, in(dir, "signers"), "u "+PublicKey{Key: plainKey(signer.PublicKey())}.String()+"\n")
			cmd := exec.CommandContext(t.Context(), keygen, "-Y", "verify", "-f", in(dir, "signers"), "-I", "u", "-n", testNamespace, "-s", in(dir, "sig"))
			cmd.Stdin = bytes.NewReader(message)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("ssh-keygen -Y verify: %v\n%s", err, out)
			}
		})
	}
}

// A sha1Signer signs as ssh-rsa, whatever it is asked for.
type sha1Signer struct{ ssh.AlgorithmSigner }

func (s sha1Signer) SignWithAlgorithm(r io.Reader, data []byte, _ string) (*ssh.Signature, error) {
	return s.AlgorithmSigner.SignWithAlgorithm(r, data, ssh.KeyAlgoRSA)
}

// TestNoSHA1 refuses such a signature when it is made and when it comes.
func TestNoSHA1(t *testing.T) {
	signer := testSigners(t)["rsa of x/crypto"].(ssh.AlgorithmSigner)
	if _, err := SignMessage(sha1Signer{signer}, testNamespace, nil); err == nil || !strings.Contains(err.Error(), "ssh-rsa") {
		t.Errorf("SignMessage = %v, want an error that names ssh-rsa", err)
	}
	inner, err := signer.SignWithAlgorithm(rand.Reader, sshsigData(testNamespace, nil), ssh.KeyAlgoRSA)
	if err != nil {
		t.Fatal(err)
	}
	sig := append([]byte(sshsigMagic), ssh.Marshal(sshsig{
		Version: 1, PublicKey: signer.PublicKey().Marshal(), Namespace: testNamespace, Hash: sshsigHash, Signature: ssh.Marshal(inner),
	})...)
	if _, err := VerifyMessage(signer.PublicKey(), testNamespace, nil, sig); !errors.Is(err, ErrSignature) {
		t.Errorf("VerifyMessage = %v, want ErrSignature", err)
	}
}

// TestVerifyMessageFields changes one field of a good signature at a time.
func TestVerifyMessageFields(t *testing.T) {
	_, signer, pub := newKey(t, "")
	good, err := SignMessage(signer, testNamespace, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*sshsig){
		"version":       func(s *sshsig) { s.Version = 2 },
		"reserved":      func(s *sshsig) { s.Reserved = []byte{0} },
		"hash":          func(s *sshsig) { s.Hash = "sha256" },
		"no hash":       func(s *sshsig) { s.Hash = "" },
		"no namespace":  func(s *sshsig) { s.Namespace = "" },
		"no key":        func(s *sshsig) { s.PublicKey = nil },
		"no signature":  func(s *sshsig) { s.Signature = nil },
		"other format":  func(s *sshsig) { s.Signature = bytes.Replace(s.Signature, []byte("ed25519"), []byte("ed25518"), 1) },
		"a byte behind": func(s *sshsig) { s.Signature = append(s.Signature, 0) },
		"huge":          func(s *sshsig) { s.Namespace = strings.Repeat("x", maxSSHSIG) },
	} {
		sig, err := parseSSHSIG(good)
		if err != nil {
			t.Fatal(err)
		}
		change(&sig)
		bad := append([]byte(sshsigMagic), ssh.Marshal(sig)...)
		if _, err := VerifyMessage(pub.Key, testNamespace, nil, bad); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: %v, want ErrSignature", name, err)
		}
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if _, err := VerifyMessage(pub.Key, testNamespace, nil, bad); !errors.Is(err, ErrSignature) {
			t.Errorf("byte %d flipped: %v, want ErrSignature", i, err)
		}
	}
}

func FuzzVerifyMessage(f *testing.F) {
	for _, signer := range testSigners(f) {
		sig, err := SignMessage(signer, testNamespace, nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(signer.PublicKey().Marshal(), sig)
	}
	files, err := filepath.Glob("testdata/sshsig/*.sig")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		if block, _ := pem.Decode(data); block != nil {
			f.Add([]byte(nil), block.Bytes)
		}
	}
	f.Fuzz(func(t *testing.T, key, sig []byte) {
		if parsed, err := parseSSHSIG(sig); err == nil {
			again := append([]byte(sshsigMagic), ssh.Marshal(parsed)...)
			if !bytes.Equal(again, sig) {
				t.Errorf("%x was read, and is written %x", sig, again)
			}
		}
		if pub, err := ssh.ParsePublicKey(key); err == nil {
			_, _ = VerifyMessage(pub, testNamespace, nil, sig) // must not panic
		}
	})
}
