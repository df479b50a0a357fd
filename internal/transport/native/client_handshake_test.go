package native

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"transferd/protocol"
)

// A script is a Prover whose answers a test has written.
type script struct {
	check   error
	keys    [][]byte
	sign    error
	refused *PeerError
}

var (
	errHost    = errors.New("that is not the host")
	errRefused = errors.New("refused")
)

func (*script) Algorithms() []string { return []string{"ssh-ed25519"} }
func (*script) User() string         { return "ann" }

func (x *script) CheckHost(context.Context, []byte, []byte, []byte) error { return x.check }
func (x *script) Keys(context.Context) ([][]byte, error)                  { return x.keys, nil }

func (x *script) Sign(_ context.Context, key, _ []byte) ([]byte, error) { return key, x.sign }

func (x *script) Refused(e *PeerError) error {
	x.refused = e
	return errRefused
}

func TestProvingWhoOneIs(t *testing.T) {
	errSign := errors.New("the agent is gone")
	key := []byte("key")
	for _, test := range []struct {
		name    string
		prover  script
		answer  func(s *stream, f frame)
		want    error
		refused protocol.Code
		sent    []protocol.Type // behind HELLO
	}{
		{name: "wrong host", prover: script{check: errHost, keys: [][]byte{key}}, want: errHost},
		{
			name: "no keys", want: errRefused, refused: protocol.CodeAuth,
			sent: []protocol.Type{protocol.TypeGoodbye},
		},
		{
			name: "no key that would do", prover: script{keys: [][]byte{key}},
			answer: func(s *stream, _ frame) { reply(s, 0, &protocol.Offered{}) },
			want:   errRefused, refused: protocol.CodeAuth,
			sent: []protocol.Type{protocol.TypeOffer, protocol.TypeGoodbye},
		},
		{
			name: "proof that does not do", prover: script{keys: [][]byte{key}},
			answer: func(s *stream, f frame) {
				if f.Type == protocol.TypeOffer {
					reply(s, 0, &protocol.Offered{Keys: 1})
				} else {
					reply(s, 0, &protocol.Fail{Code: protocol.CodeMoreAuth})
				}
			},
			want: errRefused, refused: protocol.CodeMoreAuth,
			sent: []protocol.Type{protocol.TypeOffer, protocol.TypeProve, protocol.TypeGoodbye},
		},
		{
			name: "shown out", prover: script{keys: [][]byte{key}},
			answer: func(s *stream, _ frame) { s.goodbye(protocol.CodeLimit, "too many") },
			want:   errRefused, refused: protocol.CodeLimit,
			sent: []protocol.Type{protocol.TypeOffer},
		},
		{
			name: "no signature", prover: script{keys: [][]byte{key}, sign: errSign},
			answer: func(s *stream, _ frame) { reply(s, 0, &protocol.Offered{Keys: 1}) },
			want:   errSign,
			sent:   []protocol.Type{protocol.TypeOffer},
		},
		{
			name: "key that is skipped", prover: script{keys: [][]byte{key}, sign: ErrSkip},
			answer: func(s *stream, _ frame) { reply(s, 0, &protocol.Offered{Keys: 1}) },
			want:   errRefused, refused: protocol.CodeAuth,
			sent: []protocol.Type{protocol.TypeOffer, protocol.TypeGoodbye},
		},
		{
			name: "forty keys", prover: script{keys: make([][]byte, 40)},
			answer: func(s *stream, _ frame) { reply(s, 0, &protocol.Offered{}) },
			want:   errRefused, refused: protocol.CodeAuth,
			sent: []protocol.Type{protocol.TypeOffer, protocol.TypeOffer, protocol.TypeGoodbye},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t, nil)
				var sent []protocol.Type
				_, err := NewClient(t.Context(), ClientOptions{Control: func(context.Context) (*Stream, Prover, error) {
					client, server := f.pipe(protocol.BindingTLS)
					client.Exporter = func(label string) ([]byte, error) { return []byte(label), nil }
					f.group.Go(func() {
						defer server.Close()
						_ = errors.Join(server.sendPreface(), server.readPreface(0))
						_, _ = server.next()
						reply(server, 0, &protocol.ServerHello{Version: 1, MaxData: protocol.MaxData})
						reply(server, 0, &protocol.HostProof{Key: []byte("host")})
						err := each(server, func(f frame) {
							sent = append(sent, f.Type)
							test.answer(server, f)
						})
						if goodbyeOf(err) == protocol.CodeDone {
							sent = append(sent, protocol.TypeGoodbye)
						}
					})
					return client, &test.prover, nil
				}})
				f.group.Wait()
				if !errors.Is(err, test.want) {
					t.Errorf("NewClient = %v, want %v", err, test.want)
				}
				if e := test.prover.refused; (e == nil) != (test.refused == 0) || e != nil && e.Code != test.refused {
					t.Errorf("Refused was asked about %v, want %v", e, test.refused)
				}
				if len(sent) != len(test.sent) {
					t.Fatalf("the client sent %v, want %v", sent, test.sent)
				}
				for i := range sent {
					if sent[i] != test.sent[i] {
						t.Errorf("the client sent %v, want %v", sent, test.sent)
					}
				}
			})
		})
	}
}
