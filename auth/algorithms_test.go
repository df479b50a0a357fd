package auth

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"
)

func TestAlgorithms(t *testing.T) {
	client, server := ClientAlgorithms(), ServerAlgorithms()
	for name, a := range map[string]ssh.Algorithms{"client": client, "server": server} {
		insecure := ssh.InsecureAlgorithms()
		lists := [][2][]string{
			{a.KeyExchanges, insecure.KeyExchanges},
			{a.Ciphers, insecure.Ciphers},
			{a.MACs, append(insecure.MACs, ssh.HMACSHA1)},
			{a.HostKeys, insecure.HostKeys},
			{a.PublicKeyAuths, insecure.PublicKeyAuths},
		}
		for _, l := range lists {
			if len(l[0]) == 0 {
				t.Errorf("%s: a list is empty", name)
			}
			for _, algorithm := range l[0] {
				if slices.Contains(l[1], algorithm) {
					t.Errorf("%s offers %s", name, algorithm)
				}
			}
		}
		if a.KeyExchanges[0] != ssh.KeyExchangeMLKEM768X25519 {
			t.Errorf("%s: first key exchange is %s, not a post-quantum one", name, a.KeyExchanges[0])
		}
		if a.Ciphers[0] != ssh.CipherAES128GCM {
			t.Errorf("%s: first cipher is %s", name, a.Ciphers[0])
		}
	}
	if slices.Contains(server.Ciphers, ssh.CipherChaCha20Poly1305) {
		t.Error("the server offers chacha20")
	}
	for _, kex := range server.KeyExchanges {
		if strings.Contains(kex, "nistp") || strings.Contains(kex, "group16") || strings.Contains(kex, "exchange") {
			t.Errorf("the server offers %s", kex)
		}
	}
}

func TestSelectCiphers(t *testing.T) {
	all := ClientAlgorithms().Ciphers
	for _, c := range []struct {
		spec string
		want []string // nil: refused
	}{
		{"aes256-ctr", []string{"aes256-ctr"}},
		{"aes256-ctr,aes128-ctr,aes256-ctr", []string{"aes256-ctr", "aes128-ctr"}},
		{"^aes256-ctr", []string{"aes256-ctr", all[0], all[1], all[2], all[3], all[4]}},
		{"-aes256-ctr,aes192-ctr", all[:4]},
		{"+aes256-ctr", all},
		{"", nil},
		{"3des-cbc", nil},
		{"+3des-cbc", nil},
		{"-" + strings.Join(all, ","), nil},
	} {
		got, err := SelectCiphers(c.spec)
		if (err != nil) != (c.want == nil) || !cmp.Equal(got, c.want) {
			t.Errorf("SelectCiphers(%q) = %v, %v, want %v", c.spec, got, err, c.want)
		}
	}
}
