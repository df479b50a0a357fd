package protocol

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"
)

// sshString is a string as RFC 4251, section 5 has it.
func sshString(s []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(s))), s...)
}

// sshsig signs as PROTOCOL.sshsig says, without armor.
func sshsig(key ed25519.PrivateKey, namespace string, message []byte) []byte {
	hash := sha512.Sum512(message)
	signed := bytes.Join([][]byte{[]byte("SSHSIG"), sshString([]byte(namespace)), sshString(nil), sshString([]byte("sha512")), sshString(hash[:])}, nil)
	signature := bytes.Join([][]byte{sshString([]byte("ssh-ed25519")), sshString(ed25519.Sign(key, signed))}, nil)
	return bytes.Join([][]byte{
		[]byte("SSHSIG"), {0, 0, 0, 1}, sshString(publicKey(key)), sshString([]byte(namespace)), sshString(nil), sshString([]byte("sha512")), sshString(signature),
	}, nil)
}

func publicKey(key ed25519.PrivateKey) []byte {
	return append(sshString([]byte("ssh-ed25519")), sshString(key.Public().(ed25519.PublicKey))...)
}

type named struct {
	name  string
	value []byte
}

// transcriptVectors goes through a handshake with fixed keys, nonces and
// exporters, and through joins of each kind.
func transcriptVectors(t *testing.T) []named {
	t.Helper()
	body := func(m Message) []byte { return mustAppend(t, nil, 0, m)[HeaderSize:] }
	hostKey := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32))
	userKey := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{2}, 32))
	tr := Transcript{
		Hello: body(&Hello{
			MinVersion: 1, MaxVersion: 1, Nonce: fill32(0), MaxData: MaxData, Software: "c", Algorithms: []string{"ssh-ed25519"},
		}),
		ServerHello: body(&ServerHello{Version: 1, Nonce: fill32(0x20), MaxData: MaxData, Software: "s"}),
		Exporter:    fill(0x40, 32),
		HostKey:     publicKey(hostKey),
	}
	host := tr.HostMessage()
	tr.Exporter = fill(0x60, 32)
	user := tr.UserMessage("lab", publicKey(userKey))
	all := []named{
		{"host key seed", bytes.Repeat([]byte{1}, 32)},
		{"user key seed", bytes.Repeat([]byte{2}, 32)},
		{"body of HELLO", tr.Hello},
		{"body of SERVER_HELLO", tr.ServerHello},
		{"exporter for the host", fill(0x40, 32)},
		{"exporter for the user", tr.Exporter},
		{"host key", tr.HostKey},
		{"user key", publicKey(userKey)},
		{"message of the host", host},
		{"signature of the host", sshsig(hostKey, NamespaceHost, host)},
		{"message of the user lab", user},
		{"signature of the user lab", sshsig(userKey, NamespaceUser, user)},
	}
	secret, session := fill(0x80, 32), [16]byte(fill(0xa0, 16))
	all = append(all, named{"session", session[:]}, named{"secret", secret})
	for _, bound := range []struct {
		name    string
		binding Binding
		value   []byte
	}{
		{"TLS", BindingTLS, fill(0xc0, 32)},
		{"SSH", BindingSSH, fill(0xe0, 32)},
		{"stdio", BindingStdio, fill(0, 64)},
	} {
		all = append(all, named{"bound by " + bound.name, bound.value})
		for _, role := range []Role{RoleClient, RoleServer} {
			m := JoinMessage(role, bound.binding, bound.value, session, 7)
			mac := hmac.New(sha256.New, secret)
			mac.Write(m)
			all = append(all,
				named{fmt.Sprintf("message of a join by %s as stream 7, role %c", bound.name, role), m},
				named{fmt.Sprintf("MAC of a join by %s as stream 7, role %c", bound.name, role), mac.Sum(nil)})
		}
	}
	return all
}

func TestTranscriptVectors(t *testing.T) {
	vectors := transcriptVectors(t)
	if *update {
		var b strings.Builder
		b.WriteString("# What is signed and authenticated in a handshake and in joins: name | bytes.\n")
		for _, v := range vectors {
			fmt.Fprintf(&b, "%s | %x\n", v.name, v.value)
		}
		if err := os.WriteFile("testdata/transcripts.txt", []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	rows := readVectors(t, "transcripts.txt", 2)
	if len(rows) != len(vectors) {
		t.Fatalf("transcripts.txt has %d vectors, want %d", len(rows), len(vectors))
	}
	for i, v := range vectors {
		if got := hex.EncodeToString(v.value); rows[i][0] != v.name || rows[i][1] != got {
			t.Errorf("%s = %s, want %s = %s", v.name, got, rows[i][0], rows[i][1])
		}
	}
}

// TestTranscriptsDiffer changes one input at a time: whatever both sides have
// seen differently must show.
func TestTranscriptsDiffer(t *testing.T) {
	base := Transcript{Hello: []byte("a"), ServerHello: []byte("b"), Exporter: []byte("c"), HostKey: []byte("d")}
	seen := map[string]string{}
	note := func(name string, message []byte) {
		if other, ok := seen[string(message)]; ok {
			t.Errorf("%s and %s give the same message", name, other)
		}
		seen[string(message)] = name
	}
	note("host", base.HostMessage())
	note("user", base.UserMessage("u", []byte("k")))
	note("other user", base.UserMessage("v", []byte("k")))
	note("other key", base.UserMessage("u", []byte("l")))
	note("shifted user", base.UserMessage("uk", nil))
	for name, tr := range map[string]Transcript{
		"hello":        {[]byte("x"), base.ServerHello, base.Exporter, base.HostKey},
		"server hello": {base.Hello, []byte("x"), base.Exporter, base.HostKey},
		"exporter":     {base.Hello, base.ServerHello, []byte("x"), base.HostKey},
		"host key":     {base.Hello, base.ServerHello, base.Exporter, []byte("x")},
		"shifted":      {[]byte("ab"), nil, base.Exporter, base.HostKey},
	} {
		note("host, "+name, tr.HostMessage())
		note("user, "+name, tr.UserMessage("u", []byte("k")))
	}
	one, two := [16]byte{1}, [16]byte{2}
	note("join", JoinMessage(RoleClient, BindingTLS, []byte("b"), one, 1))
	note("join, server", JoinMessage(RoleServer, BindingTLS, []byte("b"), one, 1))
	note("join, binding", JoinMessage(RoleClient, BindingSSH, []byte("b"), one, 1))
	note("join, bound", JoinMessage(RoleClient, BindingTLS, []byte("c"), one, 1))
	note("join, session", JoinMessage(RoleClient, BindingTLS, []byte("b"), two, 1))
	note("join, stream", JoinMessage(RoleClient, BindingTLS, []byte("b"), one, 2))
}
