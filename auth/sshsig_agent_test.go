package auth

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"transferd/internal/testpeer"
)

// TestAgentSignsMessages also has a certificate in the agent, and a key that is
// bound to a host: that one the agent lends to SSH's own login alone.
func TestAgentSignsMessages(t *testing.T) {
	dir := t.TempDir()
	paths := []string{in(dir, "ca"), in(dir, "rsa"), in(dir, "ecdsa"), in(dir, "ed25519")}
	for _, path := range paths {
		kind := path[strings.LastIndexByte(path, '/')+1:]
		if kind == "ca" {
			kind = "ed25519"
		}
		keygen(t, "-q", "-N", "", "-t", kind, "-f", path, "-C", path)
	}
	keygen(t, "-q", "-s", paths[0], "-I", "id", "-n", "u", paths[1]+".pub")
	socket := startAgent(t, paths[1:]...)
	bound := in(dir, "bound")
	keygen(t, "-q", "-N", "", "-t", "ed25519", "-f", bound, "-C", bound)
	write(t, in(dir, "hosts"), "example.com "+read(t, paths[0]+".pub"))
	add := exec.CommandContext(t.Context(), testpeer.Need(t, "ssh-add"), "-q", "-H", in(dir, "hosts"), "-h", "example.com", bound)
	add.Env = append(os.Environ(), "SSH_AUTH_SOCK="+socket)
	if out, err := add.CombinedOutput(); err != nil {
		t.Fatalf("ssh-add -h: %v\n%s", err, out)
	}
	a, err := DialAgent(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	ids, err := a.Identities(t.Context())
	if err != nil || len(ids) != 5 {
		t.Fatalf("Identities = %d, %v; want three keys, a certificate and the bound key", len(ids), err)
	}
	for _, id := range ids {
		signer, err := id.Signer(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		sig, err := SignMessage(signer, testNamespace, []byte("message"))
		if id.Name == bound {
			if err == nil {
				t.Error("the agent signs with a key that is bound to a host")
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", id.Name, err)
			continue
		}
		if _, err := VerifyMessage(id.Public, testNamespace, []byte("message"), sig); err != nil {
			t.Errorf("%s: %v", id.Name, err)
		}
	}
}
