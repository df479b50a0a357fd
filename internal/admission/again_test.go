package admission

import (
	"context"
	"crypto/ed25519"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"transferd/auth"
	"transferd/internal/session"
)

// lines are the authorized keys of everybody; "" means that there are no users.
type lines string

func (l lines) Keys(context.Context, string) (*auth.AuthorizedKeys, error) {
	if l == "" {
		return nil, auth.ErrAuth
	}
	return auth.ParseAuthorizedKeys("keys", []byte(l)), nil
}

func (lines) Open(context.Context, Login) (*session.Session, func() error, error) {
	return nil, nil, errors.ErrUnsupported
}

func TestALoginIsUsedAgainByTheKeysOfThatTime(t *testing.T) {
	seed := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	signer, err := ssh.NewSignerFromKey(seed)
	if err != nil {
		t.Fatal(err)
	}
	key := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, test := range []struct {
		now  lines
		want error
	}{
		{lines(key), nil},
		{lines(`from="192.0.2.7" ` + key), nil},
		{lines(`from="192.0.2.8" ` + key), auth.ErrAuth},
		{lines(`expiry-time="20260101" ` + key), auth.ErrAuth},
		{lines(`command="internal-sftp" ` + key), nil},
		{lines(`command="backup" ` + key), ErrForced},
		{"# it was taken out", auth.ErrAuth},
		{"", auth.ErrAuth},
	} {
		again := Again(t.Context(), test.now, Login{User: "alice", Key: signer.PublicKey()})
		if err := again(netip.MustParseAddr("192.0.2.7"), now); !errors.Is(err, test.want) {
			t.Errorf("%.30q: %v, want %v", test.now, err, test.want)
		}
	}
}
