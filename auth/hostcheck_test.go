package auth

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"
)

func TestCheckKnownHosts(t *testing.T) {
	_, _, key := newKey(t, "")
	_, _, other := newKey(t, "")
	const known, unknown, changedKey, revoked = "known", "unknown", "changed", "revoked"
	k, o := key.String(), other.String()
	for _, c := range []struct {
		name, text, addr, want string
	}{
		{"empty", "", "h:22", unknown},
		{"name", "h " + k, "h:22", known},
		{"name with comment", "h " + k + " a comment\r", "h:22", known},
		{"case", "H.example " + k, "h.EXAMPLE:22", known},
		{"list", "a,h,b " + k, "h:22", known},
		{"other name", "a " + k, "h:22", unknown},
		{"other key", "h " + o, "h:22", changedKey},
		{"one of two keys", "h " + o + "\nh " + k, "h:22", known},
		{"port", "[h]:2222 " + k, "h:2222", known},
		{"port is another server", "h " + k, "h:2222", unknown},
		{"port is no change either", "h " + o, "h:2222", unknown},
		{"no port is another server", "[h]:2222 " + k, "h:22", unknown},
		{"IPv6", "fe80::1%eth0 " + k, "[fe80::1%eth0]:22", known},
		{"IPv6 and port", "[::1]:2222 " + k, "[::1]:2222", known},
		{"wildcard", "*.example,!bad.example " + k, "h.example:22", known},
		{"negated", "*.example,!bad.example " + k, "bad.example:22", unknown},
		{"wildcard and port", "*.example " + k, "h.example:2222", known},
		{"wildcard, port and another key", "*.example " + o, "h.example:2222", unknown},
		{"wildcard for a port", "[*.example]:2222 " + k, "h.example:2222", known},
		{"question mark", "h? " + k, "h1:22", known},
		{"hashed", newHash("h") + " " + k, "H:22", known},
		{"hashed port", newHash("[h]:2222") + " " + k, "h:2222", known},
		{"hashed, other key", newHash("h") + " " + o, "h:22", changedKey},
		{"odd hash", "|1|AAAA|BBBB " + k, "h:22", unknown},
		{"unknown hash", strings.Replace(newHash("h"), "|1|", "|2|", 1) + " " + k, "h:22", unknown},
		{"revoked", "h " + k + "\n@revoked * " + k, "h:22", revoked},
		{"revoked for another", "h " + k + "\n@revoked elsewhere " + k, "h:22", revoked},
		{"authority's key itself", "@cert-authority h " + k, "h:22", unknown},
		{"unknown marker", "@trust h " + k, "h:22", unknown},
		{"two markers", "@cert-authority @revoked h " + k, "h:22", unknown},
		{"bad lines do not matter", "h nonsense\nh\n\nh ssh-foo AAAA\nh ssh-rsa " + words(k)[1] + "\n# h " + o + "\nh " + k, "h:22", known},
		{"bad address", "h " + k, "h", "error"},
		{"name with a comma", "h " + k, "h,x:22", "error"},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := write(t, in(t.TempDir(), "known_hosts"), c.text)
			h := &HostKeys{Files: []string{file}, Policy: PolicyStrict}
			trust, err := h.Check(t.Context(), c.addr, key.Key)
			got := "error"
			switch {
			case err == nil && trust == TrustKnown:
				got = known
			case err == nil:
				t.Errorf("trust %v without an error", trust)
			case !errors.Is(err, ErrHostKey):
				t.Errorf("%v is no ErrHostKey", err)
			case strings.Contains(err.Error(), "is not known"):
				got = unknown
			case strings.Contains(err.Error(), "HAS CHANGED"):
				got = changedKey
			case strings.Contains(err.Error(), "revokes"):
				got = revoked
			}
			if got != c.want {
				t.Errorf("Check = %s (%v), want %s", got, err, c.want)
			}
			if read(t, file) != c.text {
				t.Error("the file was changed")
			}
		})
	}
}

func TestChangedKeyTellsWhatToDo(t *testing.T) {
	_, _, key := newKey(t, "")
	_, _, other := newKey(t, "")
	file := write(t, in(t.TempDir(), "known_hosts"), "# first\n[h]:2022 "+other.String()+"\n")
	for _, policy := range []Policy{PolicyAsk, PolicyAcceptNew, PolicyStrict} {
		h := &HostKeys{Files: []string{file}, Policy: policy, Ask: func(context.Context, string) (string, error) {
			t.Error("the person was asked about a changed key")
			return "yes", nil
		}}
		_, err := h.Check(t.Context(), "h:2022", key.Key)
		if !errors.Is(err, ErrHostKey) {
			t.Fatalf("Check = %v, want ErrHostKey", err)
		}
		for _, want := range []string{file + ":2", key.Fingerprint(), other.Fingerprint(), "ssh-keygen -R '[h]:2022'", "[h]:2022"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q does not say %s", err, want)
			}
		}
	}
	var warned string
	h := &HostKeys{Files: []string{file}, Policy: PolicyOff, Warn: func(msg string) { warned += msg }}
	if trust, err := h.Check(t.Context(), "h:2022", key.Key); trust != TrustOverridden || err != nil || !strings.Contains(warned, "HAS CHANGED") {
		t.Errorf("PolicyOff: %v, %v, warned %q", trust, err, warned)
	}
}

func TestPolicies(t *testing.T) {
	_, _, key := newKey(t, "")
	line := "[h]:2022 " + key.String() + "\n"
	for _, c := range []struct {
		name    string
		policy  Policy
		answers []string // nil: nobody to ask
		trust   Trust    // TrustNone: refused
	}{
		{"strict", PolicyStrict, nil, TrustNone},
		{"accept-new", PolicyAcceptNew, nil, TrustNew},
		{"off", PolicyOff, nil, TrustNew},
		{"ask nobody", PolicyAsk, nil, TrustNone},
		{"yes", PolicyAsk, []string{"yes"}, TrustNew},
		{"YES, after thinking", PolicyAsk, []string{"", "y", "YES "}, TrustNew},
		{"fingerprint", PolicyAsk, []string{key.Fingerprint()}, TrustNew},
		{"no", PolicyAsk, []string{"no"}, TrustNone},
		{"silence", PolicyAsk, []string{}, TrustNone},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := in(t.TempDir(), "new/known_hosts")
			var questions []string
			h := &HostKeys{Files: []string{file}, Policy: c.policy}
			if c.answers != nil {
				h.Ask = func(_ context.Context, q string) (string, error) {
					if len(questions) == len(c.answers) {
						return "", errors.New("silence")
					}
					questions = append(questions, q)
					return c.answers[len(questions)-1], nil
				}
			}
			trust, err := h.Check(t.Context(), "h:2022", key.Key)
			if trust != c.trust || (err == nil) != (c.trust != TrustNone) || err != nil && !errors.Is(err, ErrHostKey) {
				t.Errorf("Check = %v, %v, want trust %v", trust, err, c.trust)
			}
			if len(questions) > 0 && !strings.Contains(questions[0], key.Fingerprint()) {
				t.Errorf("the question %q lacks the fingerprint", questions[0])
			}
			if c.trust == TrustNone {
				if _, err := os.Stat(file); err == nil {
					t.Error("a refused key was remembered")
				}
				return
			}
			if got := read(t, file); got != line {
				t.Errorf("file = %q, want %q", got, line)
			}
			h.Policy, h.Ask = PolicyStrict, nil
			if trust, err := h.Check(t.Context(), "h:2022", key.Key); trust != TrustKnown || err != nil {
				t.Errorf("the second time: %v, %v", trust, err)
			}
		})
	}
}

func TestAskMentionsOtherNames(t *testing.T) {
	_, _, key := newKey(t, "")
	file := write(t, in(t.TempDir(), "known_hosts"), "other.example "+key.String()+"\n"+newHash("h")+" "+key.String()+"\n")
	var question string
	h := &HostKeys{Files: []string{file}, Ask: func(_ context.Context, q string) (string, error) {
		question = q
		return "no", nil
	}}
	if _, err := h.Check(t.Context(), "h:2022", key.Key); !errors.Is(err, ErrHostKey) {
		t.Errorf("Check = %v, want ErrHostKey", err)
	}
	want := "This host key is known by the following other names/addresses:\n" +
		"    " + file + ":1: other.example\n    " + file + ":2: [hashed name]\n"
	if !strings.Contains(question, want) {
		t.Errorf("question = %q, want it to have %q", question, want)
	}
}

func TestAcceptedKeyIsRememberedWithoutAFile(t *testing.T) {
	_, _, key := newKey(t, "")
	_, _, other := newKey(t, "")
	asked, warned := 0, 0
	link := in(t.TempDir(), "link")
	if err := os.Symlink("nowhere", link); err != nil {
		t.Fatal(err)
	}
	h := &HostKeys{
		Files: []string{link + "/known_hosts"}, // does not exist and cannot be made
		Ask: func(context.Context, string) (string, error) {
			asked++
			return "yes", nil
		},
		Warn: func(string) { warned++ },
	}
	for range 3 {
		if _, err := h.Check(t.Context(), "h:22", key.Key); err != nil {
			t.Error(err)
		}
	}
	if asked != 1 || warned == 0 {
		t.Errorf("asked %d times, warned %d times", asked, warned)
	}
	if _, err := h.Check(t.Context(), "h:22", other.Key); err != nil || asked != 2 {
		t.Errorf("another key: %v, asked %d times in all", err, asked)
	}
}

func TestParallelChecksAskOnceAndWriteOnce(t *testing.T) {
	_, _, key := newKey(t, "")
	file := write(t, in(t.TempDir(), "known_hosts"), "unfinished line")
	asked := 0
	h := &HostKeys{Files: []string{file}, Ask: func(context.Context, string) (string, error) {
		asked++
		return "yes", nil
	}}
	var wg sync.WaitGroup
	for i := range 8 {
		// Half of them as if they were other processes.
		checker := h
		if i%2 == 1 {
			checker = &HostKeys{Files: h.Files, Policy: PolicyAcceptNew}
		}
		wg.Go(func() {
			if _, err := checker.Check(t.Context(), "h:22", key.Key); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if asked > 1 {
		t.Errorf("asked %d times", asked)
	}
	if got, want := read(t, file), "unfinished line\nh "+key.String()+"\n"; got != want {
		t.Errorf("file = %q, want %q", got, want)
	}
}

func TestSeveralFiles(t *testing.T) {
	_, _, key := newKey(t, "")
	dir := t.TempDir()
	system := write(t, in(dir, "system"), "h "+key.String()+"\n")
	h := &HostKeys{Files: []string{in(dir, "user"), system}, Policy: PolicyAcceptNew}
	if trust, err := h.Check(t.Context(), "h:22", key.Key); trust != TrustKnown || err != nil {
		t.Errorf("Check = %v, %v", trust, err)
	}
	if trust, err := h.Check(t.Context(), "i:22", key.Key); trust != TrustNew || err != nil {
		t.Errorf("Check = %v, %v", trust, err)
	}
	if got := read(t, in(dir, "user")); got != "i "+key.String()+"\n" {
		t.Errorf("the user's file = %q", got)
	}
	for name, want := range map[string]os.FileMode{in(dir, "user"): 0o600} {
		if info, err := os.Stat(name); err != nil || info.Mode() != want {
			t.Errorf("%s has mode %v, %v", name, info.Mode(), err)
		}
	}
}

func TestSSHKeygenFindsWhatWeWrote(t *testing.T) {
	for _, hash := range []bool{false, true} {
		for _, addr := range []string{"h.example:22", "h.example:2022", "[::1]:22", "[::1]:2022", "10.0.0.7:2022", "Upper.Example:2022"} {
			t.Run(fmt.Sprintf("%v %s", hash, addr), func(t *testing.T) {
				_, _, key := newKey(t, "")
				file := in(t.TempDir(), "known_hosts")
				h := &HostKeys{Files: []string{file}, Policy: PolicyAcceptNew, Hash: hash}
				if _, err := h.Check(t.Context(), addr, key.Key); err != nil {
					t.Fatal(err)
				}
				name, host, err := hostNames(addr)
				if err != nil {
					t.Fatal(err)
				}
				if got := keygen(t, "-F", name, "-f", file); !strings.Contains(got, words(key.String())[1]) {
					t.Errorf("ssh-keygen -F %s = %q", name, got)
				}
				if hash == strings.Contains(read(t, file), host) {
					t.Errorf("hash = %v, but the file is %q", hash, read(t, file))
				}
				// What ssh-keygen hashes we find again.
				keygen(t, "-H", "-f", file)
				h.Policy = PolicyStrict
				if trust, err := (&HostKeys{Files: h.Files, Policy: PolicyStrict}).Check(t.Context(), addr, key.Key); trust != TrustKnown || err != nil {
					t.Errorf("after ssh-keygen -H: %v, %v", trust, err)
				}
			})
		}
	}
}

func TestHostCertificates(t *testing.T) {
	_, ca, caPub := newKey(t, "")
	_, _, key := newKey(t, "")
	_, _, other := newKey(t, "")
	line := "@cert-authority *.example " + caPub.String() + "\n"
	for _, c := range []struct {
		name, text, addr string
		change           func(*ssh.Certificate)
		ok               bool
	}{
		{"right", line, "h.example:22", nil, true},
		{"port", line, "h.example:2022", nil, true},
		{"other host", line, "i.example:22", nil, false},
		{"no such authority", "", "h.example:22", nil, false},
		{"authority of others", "@cert-authority *.org " + caPub.String(), "h.example:22", nil, false},
		{"wildcard principal", line, "h.example:22", func(x *ssh.Certificate) { x.ValidPrincipals = []string{"*.example"} }, true},
		{"no principals", line, "h.example:22", func(x *ssh.Certificate) { x.ValidPrincipals = nil }, false},
		{"user certificate", line, "h.example:22", func(x *ssh.Certificate) { x.CertType = ssh.UserCert }, false},
		{"expired", line, "h.example:22", func(x *ssh.Certificate) { x.ValidBefore = uint64(noon.Unix()) }, false},
		{"critical option", line, "h.example:22", func(x *ssh.Certificate) { x.CriticalOptions = map[string]string{"a": "b"} }, false},
		{"the key is known", "h.example " + key.String(), "h.example:22", nil, true},
		{"another key is known", "h.example " + other.String(), "h.example:22", nil, false},
		{"authority revoked", line + "@revoked * " + caPub.String(), "h.example:22", nil, false},
		{"key revoked", line + "@revoked * " + key.String(), "h.example:22", nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			cert := &ssh.Certificate{
				Key: key.Key, CertType: ssh.HostCert, KeyId: "id", ValidPrincipals: []string{"h.example"},
				ValidAfter: uint64(noon.Unix()) - 10, ValidBefore: uint64(noon.Unix()) + 10,
			}
			if c.change != nil {
				c.change(cert)
			}
			if err := cert.SignCert(rand.Reader, ca); err != nil {
				t.Fatal(err)
			}
			h := &HostKeys{
				Files:  []string{write(t, in(t.TempDir(), "known_hosts"), c.text)},
				Policy: PolicyStrict,
				Now:    func() time.Time { return noon },
			}
			trust, err := h.Check(t.Context(), c.addr, cert)
			if c.ok != (err == nil && trust == TrustKnown) {
				t.Errorf("Check = %v, %v, want it to succeed: %v", trust, err, c.ok)
			}
		})
	}
}

func TestHostKeyAlgorithms(t *testing.T) {
	_, _, ed := newKey(t, "")
	rsaKey, err := GenerateKey("rsa", 2048, "")
	if err != nil {
		t.Fatal(err)
	}
	rsaPub, err := rsaKey.Public()
	if err != nil {
		t.Fatal(err)
	}
	all := ClientAlgorithms().HostKeys
	for _, c := range []struct {
		text string
		want []string // the first ones
	}{
		{"", all[:1]},
		{"h " + rsaPub.String(), []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}},
		{"other " + rsaPub.String(), all[:1]},
		{"[h]:2222 " + rsaPub.String(), all[:1]},
		{"h " + ed.String() + "\nh " + rsaPub.String(), []string{ssh.KeyAlgoED25519, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}},
		{"@cert-authority h " + rsaPub.String() + "\nh " + ed.String(), append(all[:6:6], ssh.KeyAlgoED25519)},
	} {
		h := &HostKeys{Files: []string{write(t, in(t.TempDir(), "known_hosts"), c.text)}}
		got, err := h.Algorithms("h:22")
		if err != nil || len(got) != len(all) || !cmp.Equal(got[:len(c.want)], c.want) {
			t.Errorf("%q: Algorithms = %v, %v, want them to begin with %v", c.text, got, err, c.want)
		}
	}
}

func TestParsePolicy(t *testing.T) {
	for s, want := range map[string]Policy{"ask": PolicyAsk, "accept-new": PolicyAcceptNew, "strict": PolicyStrict, "yes": PolicyStrict, "off": PolicyOff, "NO": PolicyOff} {
		if got, err := ParsePolicy(s); got != want || err != nil {
			t.Errorf("ParsePolicy(%q) = %v, %v, want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "maybe"} {
		if _, err := ParsePolicy(s); err == nil {
			t.Errorf("ParsePolicy(%q) succeeds", s)
		}
	}
}

func FuzzParseKnownHosts(f *testing.F) {
	_, _, key := newKey(f, "comment")
	f.Add([]byte("h,*.example,!x,[h]:22 "+key.String()), "h.example:22")
	f.Add([]byte(newHash("h")+" "+key.String()), "h:22")
	f.Add([]byte("@revoked * "+key.String()+"\n@cert-authority *.x "+key.String()), "[::1]:2022")
	f.Fuzz(func(t *testing.T, data []byte, addr string) {
		lines := parseKnownHosts("k", data)
		name, host, err := hostNames(addr)
		if err != nil {
			return
		}
		for _, l := range lines {
			_ = l.matches(name) || l.matchesAnyPort(host)
		}
		// What we would write must be read back as what was meant.
		again := parseKnownHosts("k", []byte(name+" "+key.String()))
		if len(again) != 1 || !again[0].matches(name) {
			t.Errorf("an entry for %q is read as %+v", name, again)
		}
	})
}

func FuzzMatchWildcard(f *testing.F) {
	f.Add("*a?b*", "xxazbyy")
	f.Fuzz(func(t *testing.T, pattern, s string) {
		if len(pattern) > 64 || len(s) > 64 {
			return
		}
		if got, want := matchWildcard(pattern, s), matchSlowly(pattern, s); got != want {
			t.Errorf("matchWildcard(%q, %q) = %v, want %v", pattern, s, got, want)
		}
	})
}

// matchSlowly is matchWildcard by its definition.
func matchSlowly(pattern, s string) bool {
	reach := make([]bool, len(s)+1) // which prefixes of s the pattern so far matches
	reach[0] = true
	for i := range len(pattern) {
		next := make([]bool, len(s)+1)
		for j := range reach {
			switch {
			case pattern[i] == '*':
				next[j] = reach[j] || j > 0 && next[j-1]
			case j > 0 && (pattern[i] == '?' || pattern[i] == s[j-1]):
				next[j] = reach[j-1]
			}
		}
		reach = next
	}
	return reach[len(s)]
}
