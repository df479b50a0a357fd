package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"transferd/internal/testpeer"
)

// A secretPrompter answers secret questions in turn.
type secretPrompter struct {
	asked   []string
	answers []string
}

func (p *secretPrompter) Line(context.Context, string) (string, error) {
	return "", errNoTerminal
}

func (p *secretPrompter) Secret(_ context.Context, prompt string) ([]byte, error) {
	if len(p.answers) == 0 {
		return nil, errNoTerminal
	}
	p.asked = append(p.asked, prompt)
	answer := p.answers[0]
	p.answers = p.answers[1:]
	return []byte(answer), nil
}

func TestKeygenAsksForPassphrases(t *testing.T) {
	env, stdout, stderr := testEnviron(true, 80)
	env.cwd = t.TempDir()
	keygen := func(want string, answers []string, args ...string) {
		t.Helper()
		prompts := &secretPrompter{answers: answers}
		env.prompts = prompts
		if err := runKeygen(t.Context(), env, args); err != nil {
			t.Errorf("keygen %q: %v\n%s", args, err, stderr.take())
		}
		if got := strings.Join(prompts.asked, "|"); got != want {
			t.Errorf("keygen %q asked %q, want %q", args, got, want)
		}
	}
	const again = "Enter same passphrase again: "
	const fresh = "Enter passphrase (empty for no passphrase): "
	const change = "Enter new passphrase (empty for no passphrase): "
	keygen(fresh+"|"+again, []string{"one", "one"}, "-f", "k", "-a", "1")
	if !strings.Contains(stdout.take(), "has been saved in k.pub") {
		t.Error("nothing says where the key is")
	}
	keygen("Enter passphrase: ", []string{"one"}, "-y", "-f", "k")
	keygen("Enter old passphrase: |"+change+"|"+again+"|"+change+"|"+again,
		[]string{"one", "two", "typo", "two", "two"}, "-p", "-f", "k", "-a", "1")
	if !strings.Contains(stdout.take(), "Passphrases do not match.  Try again.") {
		t.Error("nothing says that the passphrases differ")
	}
	keygen("Enter passphrase: ", []string{"two"}, "-y", "-f", "k")

	path := filepath.Join(env.cwd, "k")
	cmd := exec.CommandContext(t.Context(), testpeer.Need(t, "ssh-keygen"), "-y", "-P", "two", "-f", path)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if pub, err := os.ReadFile(path + ".pub"); err != nil || string(pub) != string(out) {
		t.Errorf("ssh-keygen -y = %q, want %q (%v)", out, pub, err)
	}
}

func TestKeygenWithoutTerminalReadsStdin(t *testing.T) {
	env, _, stderr := testEnviron(false, 80)
	env.cwd, env.prompts = t.TempDir(), &secretPrompter{}
	env.stdin = strings.NewReader("secret\nsecret\n")
	if err := runKeygen(t.Context(), env, []string{"-q", "-f", "k", "-a", "1"}); err != nil {
		t.Fatal(err, stderr.take())
	}
	if err := runKeygen(t.Context(), env, []string{"-y", "-P", "secret", "-f", "k"}); err != nil {
		t.Error(err, stderr.take())
	}
	// Nothing there to read: no key without a passphrase by accident.
	env.stdin = strings.NewReader("")
	err := runKeygen(t.Context(), env, []string{"-q", "-f", "l"})
	var coded codedError
	if !errors.As(err, &coded) || coded.exitCode() != keygenRefused || !strings.Contains(stderr.take(), "-N") {
		t.Errorf("keygen without anything to ask = %v", err)
	}
	if _, err := os.Stat(filepath.Join(env.cwd, "l")); err == nil {
		t.Error("a key was made")
	}
}
