package sshd

import (
	"strings"
	"testing"
	"testing/synctest"
)

func TestLogin(t *testing.T) {
	tests := []struct {
		name    string
		options string // before alice's key
		user    string
		other   bool // with a key that nobody knows
		want    string
	}{
		{"right key", "", "alice", false, ""},
		{"wrong key", "", "alice", true, "unable to authenticate"},
		{"unknown user", "", "nobody", false, "unable to authenticate"},
		{"no name", "", "", false, "unable to authenticate"},
		{"from= of here", `from="192.0.2.0/24" `, "alice", false, ""},
		{"from= of elsewhere", `from="198.51.100.0/24" `, "alice", false, "unable to authenticate"},
		{"expired", `expiry-time="19990101" `, "alice", false, "unable to authenticate"}, // the bubble begins in 2000
		{"not yet expired", `expiry-time="20000201" `, "alice", false, ""},
		{"an option that we do not know", `sudo `, "alice", false, "unable to authenticate"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, Limits{})
				r.lines["alice"] = test.options + authorizedLine(r.key)
				key := r.key
				if test.other {
					key = newSigner(t)
				}
				r.run(func() {
					client, _, err := r.dial(test.user, key)
					if err == nil {
						defer func() { _ = client.Close() }()
					}
					switch {
					case test.want == "" && err != nil:
						t.Errorf("login: %v\n%s", err, r.log)
					case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
						t.Errorf("login = %v, want %q", err, test.want)
					}
				})
			})
		})
	}
}

// What a stranger sees must not tell which names exist: the same bytes flow, in
// number, for a wrong key and for an unknown user.
func TestUnknownUserLooksLikeAWrongKey(t *testing.T) {
	type trace struct {
		sent int64
		err  string
	}
	try := func(t *testing.T, user string) (got trace) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, Limits{})
			r.run(func() {
				_, conn, err := r.dial(user, newSigner(t))
				got = trace{conn.Sent(), err.Error()}
			})
			if !strings.Contains(r.log.String(), "login refused") {
				t.Errorf("the log does not say that the login was refused:\n%s", r.log)
			}
		})
		return got
	}
	known, unknown := try(t, "alice"), try(t, "malice"[:5])
	if known != unknown {
		t.Errorf("wrong key: %+v, unknown user: %+v", known, unknown)
	}
}

func TestVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Limits{})
		r.run(func() {
			client, _ := r.login()
			if got := string(client.ServerVersion()); got != "SSH-2.0-transferd" {
				t.Errorf("server version %q", got)
			}
			_ = client.Close()
		})
	})
}
