package auth

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"transferd/internal/testpeer"
)

func TestLoadIdentityIsLazy(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		pub  bool // keep the .pub
	}{
		{"OpenSSH", []string{"-t", "ed25519"}, false},
		{"OpenSSH rsa", []string{"-t", "rsa", "-b", "2048"}, false},
		{"PEM with .pub", []string{"-t", "ecdsa", "-m", "PEM"}, true},
		{"PKCS8 with .pub", []string{"-t", "ecdsa", "-m", "PKCS8"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := in(t.TempDir(), "key")
			keygen(t, append([]string{"-q", "-N", "secret", "-a", "2", "-f", path}, c.args...)...)
			want := read(t, path+".pub")
			if !c.pub {
				if err := os.Remove(path + ".pub"); err != nil {
					t.Fatal(err)
				}
			}
			asked := 0
			id, err := LoadIdentity(path, answers(&asked, "wrong", "secret"))
			if err != nil {
				t.Fatal(err)
			}
			signer, err := id.Signer(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got := (PublicKey{Key: signer.PublicKey()}).String(); !strings.HasPrefix(want, got) {
				t.Errorf("public key = %s, want %s", got, want)
			}
			if asked != 0 {
				t.Error("asked before anything was to be signed")
			}
			checkSignature(t, signer)
			checkSignature(t, signer)
			if asked != 2 {
				t.Errorf("asked %d times, want a wrong and a right answer", asked)
			}
		})
	}
}

func TestLockedPEMWithoutPublicKeyAsksAtOnce(t *testing.T) {
	path := in(t.TempDir(), "key")
	keygen(t, "-q", "-N", "secret", "-t", "ecdsa", "-m", "PEM", "-f", path)
	want := read(t, path+".pub")
	if err := os.Remove(path + ".pub"); err != nil {
		t.Fatal(err)
	}
	asked := 0
	id, err := LoadIdentity(path, answers(&asked, "secret"))
	if err != nil || id.Public != nil {
		t.Fatalf("LoadIdentity = %v, %v", id, err)
	}
	signer, err := id.Signer(t.Context())
	if err != nil || asked != 1 || !strings.HasPrefix(want, PublicKey{Key: signer.PublicKey()}.String()) {
		t.Fatalf("Signer = %v, %v, asked %d times", signer, err, asked)
	}
	checkSignature(t, signer)
}

func TestPassphraseThatNobodyKnows(t *testing.T) {
	key, _, _ := newKey(t, "")
	path := in(t.TempDir(), "key")
	if err := WriteKeyPair(path, key, []byte("secret"), 1, false); err != nil {
		t.Fatal(err)
	}
	for name, list := range map[string][]string{
		"wrong": {"a", "b", "c", "secret"}, "empty": {""}, "silence": {}, "nobody": nil,
	} {
		asked := 0
		ask := answers(&asked, list...)
		if list == nil {
			ask = nil
		}
		id, err := LoadIdentity(path, ask)
		if err != nil {
			t.Fatal(err)
		}
		signer, err := id.Signer(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := signer.Sign(nil, []byte("data")); !errors.Is(err, ErrPassphrase) || !strings.Contains(err.Error(), path) {
				t.Errorf("%s: Sign = %v, want ErrPassphrase and the file", name, err)
			}
		}
		if asked > tries {
			t.Errorf("%s: asked %d times", name, asked)
		}
	}
}

func TestInterruptedQuestionIsAskedAgain(t *testing.T) {
	key, _, _ := newKey(t, "")
	path := in(t.TempDir(), "key")
	if err := WriteKeyPair(path, key, []byte("secret"), 1, false); err != nil {
		t.Fatal(err)
	}
	id, err := LoadIdentity(path, func(ctx context.Context, _ string) ([]byte, error) { return []byte("secret"), ctx.Err() })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	signer, err := id.Signer(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := signer.Sign(nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Sign = %v, want context.Canceled", err)
	}
	if signer, err = id.Signer(t.Context()); err != nil {
		t.Fatal(err)
	}
	checkSignature(t, signer)
}

func TestLoadIdentityRefuses(t *testing.T) {
	key, _, _ := newKey(t, "")
	_, _, otherPub := newKey(t, "")
	dir := t.TempDir()
	path := in(dir, "key")
	if err := WriteKeyPair(path, key, nil, 0, false); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadIdentity(in(dir, "none"), nil); !missing(err) {
		t.Errorf("a file that is not there: %v", err)
	}
	if _, err := LoadIdentity(write(t, in(dir, "text"), "hello"), nil); err == nil {
		t.Error("a text passes for a key")
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadIdentity(path, nil); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that others can read: %v", err)
	}
	// A .pub of another key must not make us sign for that.
	pem := in(dir, "pem")
	keygen(t, "-q", "-N", "secret", "-t", "ecdsa", "-m", "PEM", "-f", pem)
	write(t, pem+".pub", otherPub.String()+"\n")
	asked := 0
	id, err := LoadIdentity(pem, answers(&asked, "secret"))
	if err != nil {
		t.Fatal(err)
	}
	signer, err := id.Signer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := signer.Sign(nil, nil); err == nil || !strings.Contains(err.Error(), ".pub") {
		t.Errorf("Sign with another key's .pub: %v", err)
	}
}

// startAgent starts an ssh-agent, which holds the keys at paths.
func startAgent(t *testing.T, paths ...string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "agent") //nolint:usetesting // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	socket := in(dir, "s")
	cmd := exec.CommandContext(t.Context(), testpeer.Need(t, "ssh-agent"), "-D", "-a", socket)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = os.RemoveAll(dir)
	})
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil { // it says where it listens when it does
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	for _, path := range paths {
		add := exec.CommandContext(t.Context(), testpeer.Need(t, "ssh-add"), "-q", path)
		add.Env = append(os.Environ(), "SSH_AUTH_SOCK="+socket)
		if out, err := add.CombinedOutput(); err != nil {
			t.Fatalf("ssh-add %s: %v\n%s", path, err, out)
		}
	}
	return socket
}

func TestAgentSignsWithEveryKind(t *testing.T) {
	dir := t.TempDir()
	var paths []string
	for _, sort := range keySorts() {
		path := in(dir, "key"+strings.Join(sort, ""))
		keygen(t, append([]string{"-q", "-N", "", "-f", path, "-C", path}, sort...)...)
		paths = append(paths, path)
	}
	a, err := DialAgent(t.Context(), startAgent(t, paths...))
	if err != nil {
		t.Fatal(err)
	}
	ids, err := a.Identities(t.Context())
	if err != nil || len(ids) != len(paths) {
		t.Fatalf("Identities = %v, %v", ids, err)
	}
	var wg sync.WaitGroup
	for i, id := range ids {
		if id.Name != paths[i] {
			t.Errorf("identity %d is %s, want %s", i, id.Name, paths[i])
		}
		wg.Go(func() {
			signer, err := id.Signer(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			for _, algorithm := range signer.(ssh.MultiAlgorithmSigner).Algorithms() {
				sig, err := signer.(ssh.MultiAlgorithmSigner).SignWithAlgorithm(nil, []byte("data"), algorithm)
				if err != nil || sig.Format != algorithm {
					t.Errorf("%s: sign with %s: %v, %v", id.Name, algorithm, sig, err)
				}
			}
			checkSignature(t, signer)
		})
	}
	wg.Wait()
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if _, err := a.Identities(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Identities after Close: %v, want net.ErrClosed", err)
	}
}

func TestAgentThatHangsCanBeLeft(t *testing.T) {
	dir, err := os.MkdirTemp("", "agent") //nolint:usetesting // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	l, err := net.Listen("unix", in(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	accept := func() net.Conn {
		t.Helper()
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	for _, want := range []error{context.Canceled, net.ErrClosed} {
		a, err := DialAgent(t.Context(), in(dir, "s"))
		if err != nil {
			t.Fatal(err)
		}
		_ = accept().Close()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			_, err := a.Identities(ctx)
			done <- err
		}()
		conn := accept()
		if _, err := conn.Read(make([]byte, 5)); err != nil { // now it waits for an answer
			t.Fatal(err)
		}
		if errors.Is(want, net.ErrClosed) {
			err = a.Close()
		} else {
			cancel()
		}
		if got := <-done; !errors.Is(got, want) || err != nil {
			t.Errorf("Identities = %v, %v, want %v", got, err, want)
		}
		cancel()
		_ = conn.Close()
	}
}

func TestAgentAddress(t *testing.T) {
	env := map[string]string{"SSH_AUTH_SOCK": "/sock", "OTHER": "/other", "EMPTY": ""}
	lookup := func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	for setting, want := range map[string]string{
		"": "/sock", "none": "", "SSH_AUTH_SOCK": "/sock", "$OTHER": "/other", "${OTHER}": "/other", "$EMPTY": "", "$NONE": "",
		"~/agent": "/home/u/agent", "/abs": "/abs",
	} {
		if got := AgentAddress(setting, lookup, "/home/u"); got != want {
			t.Errorf("AgentAddress(%q) = %q, want %q", setting, got, want)
		}
	}
}

func TestIdentitiesOrder(t *testing.T) {
	dir := t.TempDir()
	make := func(name, passphrase string) string {
		t.Helper()
		path := in(dir, name)
		keygen(t, "-q", "-t", "ed25519", "-N", passphrase, "-a", "1", "-C", name, "-f", path)
		return path
	}
	// The agent holds three keys, one of which has a file that is locked by now.
	agent1, both, agent2 := make("agent1", ""), make("both", ""), make("agent2", "")
	pubOnly := make("pubonly", "")
	socket := startAgent(t, agent1, both, agent2, pubOnly)
	keygen(t, "-q", "-p", "-P", "", "-N", "secret", "-f", both)
	if err := os.Remove(pubOnly); err != nil { // the .pub stays
		t.Fatal(err)
	}
	file1, file2 := make("file1", "secret"), make("file2", "")
	ca := make("ca", "")
	keygen(t, "-q", "-s", ca, "-I", "id", "-n", "u", file2+".pub")
	keygen(t, "-q", "-s", ca, "-I", "id", "-n", "u", both+".pub")
	files := []string{file1, pubOnly, in(dir, "missing"), both, file2, file1}

	for _, c := range []struct {
		only, agent bool
		want        []string
	}{
		{false, true, []string{"both-cert.pub", "pubonly", "both", "agent1", "agent2", "file1", "file2-cert.pub", "file2"}},
		{true, true, []string{"both-cert.pub", "pubonly", "both", "file1", "file2-cert.pub", "file2"}},
		{false, false, []string{"file1", "pubonly.pub", "both-cert.pub", "both", "file2-cert.pub", "file2"}},
	} {
		var warned []error
		o := IdentityOptions{Files: files, Only: c.only, Warn: func(err error) { warned = append(warned, err) }}
		if c.agent {
			a, err := DialAgent(t.Context(), socket)
			if err != nil {
				t.Fatal(err)
			}
			o.Agent = a
		}
		ids, err := Identities(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, id := range ids {
			names = append(names, strings.TrimPrefix(id.Name, dir+"/"))
			signer, err := id.Signer(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			locked := strings.HasPrefix(id.Name, file1) || !c.agent && (strings.Contains(id.Name, "both") || strings.Contains(id.Name, "pubonly"))
			if _, err := signer.Sign(nil, nil); (err == nil) == locked {
				t.Errorf("%+v: %s: Sign = %v", c, id.Name, err)
			}
		}
		if diff := cmp.Diff(c.want, names); diff != "" {
			t.Errorf("%+v: identities (-want +got):\n%s", c, diff)
		}
		if len(warned) > 0 {
			t.Errorf("warned %v", warned)
		}
	}
	warned := 0
	if _, err := Identities(t.Context(), IdentityOptions{Files: files, Named: true, Warn: func(error) { warned++ }}); err != nil || warned != 1 {
		t.Errorf("a missing file that was named: %v, warned %d times", err, warned)
	}
}
