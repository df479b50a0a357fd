package auth

import (
	"bytes"
	"crypto/rand"
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.FixedZone("lab", 3600))

func TestAuthorizeOptions(t *testing.T) {
	_, _, pub := newKey(t, "")
	all := Grant{PTY: true, PortForwarding: true, AgentForwarding: true, X11Forwarding: true, UserRC: true}
	with := func(change func(*Grant)) *Grant {
		g := all
		change(&g)
		return &g
	}
	for _, c := range []struct {
		options string
		want    *Grant // nil: refused
	}{
		{"", &all},
		{"restrict", &Grant{}},
		{"RESTRICT", &Grant{}},
		{"restrict,pty", &Grant{PTY: true}},
		{"pty,restrict", &Grant{}},
		{"no-pty,no-port-forwarding,no-agent-forwarding,no-X11-forwarding,no-user-rc", &Grant{}},
		{"no-pty,pty", &all},
		{`command="a \"b\" c\d, e"`, with(func(g *Grant) { g.ForceCommand = `a "b" c\d, e` })},
		{`command=""`, nil},
		{`command="a",command="a"`, nil},
		{`command=a`, nil},
		{`command="a`, nil},
		{`command`, nil},
		{`restrict="yes"`, nil},
		{`environment="A=b c",environment="B=",environment="A=z"`, with(func(g *Grant) { g.Environment = []string{"A=b c", "B="} })},
		{`environment="A-B=c"`, nil},
		{`environment="A"`, nil},
		{`permitopen="h:22",permitopen="[::1]:*",permitlisten="8080",permitlisten="localhost:1"`, with(func(g *Grant) {
			g.PermitOpen, g.PermitListen = []string{"h:22", "[::1]:*"}, []string{"8080", "localhost:1"}
		})},
		{`permitopen="22"`, nil},
		{`permitopen="h:0"`, nil},
		{`permitlisten="h:x"`, nil},
		{`tunnel="3"`, with(func(g *Grant) { g.Tunnel = "3" })},
		{`tunnel="x"`, nil},
		{"no-touch-required", with(func(g *Grant) { g.NoTouchRequired = true })},
		{"verify-required", &all}, // says nothing about a key that is in a file
		{"unheard-of", nil},
		{"no-unheard-of", nil},
		{"no-restrict", nil},
		{`unheard-of="x"`, nil},
		{"restrict,", nil},
		{",restrict", nil},
		{"restrict,,pty", nil},
		{`command="a"pty`, nil},

		{`from="10.0.0.7"`, &all},
		{`from="10.0.0.8"`, nil},
		{`from="10.0.0.0/24"`, &all},
		{`from="10.0.0.0/24,!10.0.0.7"`, nil},
		{`from="!10.0.0.7,10.0.0.0/24"`, nil},
		{`from="!10.0.0.8,10.0.0.0/24"`, &all},
		{`from="!10.0.0.8"`, nil}, // nothing says who may
		{`from="10.0.0.*"`, &all},
		{`from="10.?.0.7"`, &all},
		{`from="*"`, &all},
		{`from="!*,10.0.0.7"`, nil},
		{`from="*.example.com"`, nil},
		{`from="10.0.0.7/24"`, nil}, // bits behind the mask
		{`from="10.0.0.0/33"`, nil},
		{`from=""`, nil},
		{`from="10.0.0.7,"`, nil},
		{`from="10.0.0.7",from="10.0.0.7"`, nil},
		{`from="2001:db8::/32,10.0.0.7"`, &all},

		{`expiry-time="20261124"`, nil},
		{`expiry-time="20261125"`, with(func(g *Grant) { g.Expires = time.Date(2026, 11, 25, 0, 0, 0, 0, noon.Location()) })},
		{`expiry-time="20261124120001"`, with(func(g *Grant) { g.Expires = noon.Add(time.Second) })},
		{`expiry-time="202611241200"`, nil},
		{`expiry-time="202611241200Z"`, with(func(g *Grant) { g.Expires = noon.Add(time.Hour) })},
		{`expiry-time="20261125",expiry-time="20261124"`, nil},
		{`expiry-time="2026112"`, nil},
		{`expiry-time="20261399"`, nil},
		{`expiry-time="tomorrow"`, nil},

		{"cert-authority", nil}, // the key itself is not meant then
		{`principals="a"`, &all},
	} {
		line := pub.String() + " the comment"
		if c.options != "" {
			line = c.options + " " + line
		}
		keys := ParseAuthorizedKeys("keys", []byte("# comment\n\n"+line+"\r\n"))
		got, err := keys.Authorize(LoginRequest{User: "u", Key: pub.Key, Remote: netip.MustParseAddr("::ffff:10.0.0.7"), Now: noon})
		if c.want == nil {
			if !errors.Is(err, ErrAuth) {
				t.Errorf("%s: %+v, %v, want ErrAuth", c.options, got, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v (%v)", c.options, err, keys.Problems)
			continue
		}
		want := *c.want
		want.Fingerprint, want.Source, want.Comment = pub.Fingerprint(), "keys:3", "the comment"
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: grant (-want +got):\n%s", c.options, diff)
		}
	}
}

func TestAuthorizedKeysProblems(t *testing.T) {
	_, _, pub := newKey(t, "")
	text := strings.Join([]string{
		"nonsense",
		"ssh-ed25519 AAAA",
		"ssh-rsa " + words(pub.String())[1], // lies about its type
		`odd-option ` + pub.String(),
		`command="a ` + pub.String(),
		strings.Repeat("x", maxKeysLine+1),
		"\t " + pub.String(),
	}, "\n")
	keys := ParseAuthorizedKeys("k", []byte(text))
	var places []string
	for _, err := range keys.Problems {
		place, _, _ := strings.Cut(err.Error(), ": ")
		places = append(places, place)
	}
	if diff := cmp.Diff([]string{"k:1", "k:2", "k:3", "k:4", "k:5", "k:6"}, places); diff != "" {
		t.Errorf("problems (-want +got):\n%s\n%v", diff, keys.Problems)
	}
	if got, err := keys.Authorize(LoginRequest{Key: pub.Key, Now: noon}); err != nil || got.Source != "k:7" {
		t.Errorf("Authorize = %+v, %v, want the key of line 7", got, err)
	}
}

func TestAuthorizeTakesTheFirstLineThatGrants(t *testing.T) {
	_, _, pub := newKey(t, "")
	text := `from="192.0.2.1" ` + pub.String() + "\n" + `command="x" ` + pub.String() + "\n"
	got, err := ParseAuthorizedKeys("k", []byte(text)).Authorize(LoginRequest{Key: pub.Key, Remote: netip.MustParseAddr("10.0.0.7"), Now: noon})
	if err != nil || got.Source != "k:2" || got.ForceCommand != "x" {
		t.Errorf("Authorize = %+v, %v", got, err)
	}
}

func TestLoadAuthorizedKeysRefusesWhatOthersCanWrite(t *testing.T) {
	_, _, pub := newKey(t, "")
	path := write(t, in(t.TempDir(), "keys"), pub.String()+"\n")
	if keys, err := LoadAuthorizedKeys(path); err != nil || keys.Len() != 1 {
		t.Errorf("LoadAuthorizedKeys = %v, %v", keys, err)
	}
	if err := os.Chmod(path, 0o620); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadAuthorizedKeys(path); err == nil || !strings.Contains(err.Error(), "chmod") {
		t.Errorf("LoadAuthorizedKeys of mode 0620: %v", err)
	}
}

func TestAuthorizeCertificates(t *testing.T) {
	_, ca, caPub := newKey(t, "the authority")
	_, _, pub := newKey(t, "")
	start := uint64(noon.Add(-time.Hour).Unix())
	end := uint64(noon.Add(time.Hour).Unix())
	all := map[string]string{"permit-pty": "", "permit-port-forwarding": "", "permit-agent-forwarding": "", "permit-X11-forwarding": "", "permit-user-rc": ""}
	for _, c := range []struct {
		name    string
		options string // after cert-authority
		change  func(*ssh.Certificate)
		want    func(*Grant) // nil: refused
	}{
		{"plain", "", nil, func(*Grant) {}},
		{"restricted by the line", ",restrict", nil, func(g *Grant) { *g = Grant{} }},
		{"no extensions", "", func(x *ssh.Certificate) { x.Extensions = nil }, func(g *Grant) { *g = Grant{} }},
		{"unknown extension", "", func(x *ssh.Certificate) { x.Extensions = map[string]string{"fly@example.com": ""} }, func(g *Grant) { *g = Grant{} }},
		{"for ever", "", func(x *ssh.Certificate) { x.ValidBefore = ssh.CertTimeInfinity }, func(g *Grant) { g.Expires = time.Unix(0, 0) }},
		{"expired", "", func(x *ssh.Certificate) { x.ValidBefore = uint64(noon.Unix()) }, nil},
		{"too early", "", func(x *ssh.Certificate) { x.ValidAfter = uint64(noon.Unix()) + 1 }, nil},
		{"host certificate", "", func(x *ssh.Certificate) { x.CertType = ssh.HostCert }, nil},
		{"other user", "", func(x *ssh.Certificate) { x.ValidPrincipals = []string{"root"} }, nil},
		{"for nobody", "", func(x *ssh.Certificate) { x.ValidPrincipals = nil }, nil},
		{"no wildcards", "", func(x *ssh.Certificate) { x.ValidPrincipals = []string{"*"} }, nil},
		{"by principals", `,principals="lab,staff"`, func(x *ssh.Certificate) { x.ValidPrincipals = []string{"staff"} }, func(*Grant) {}},
		{"not by principals", `,principals="lab"`, nil, nil},
		{"unknown critical option", "", func(x *ssh.Certificate) { x.CriticalOptions = map[string]string{"fly": ""} }, nil},
		{"verify-required", "", func(x *ssh.Certificate) { x.CriticalOptions = map[string]string{"verify-required": ""} }, func(*Grant) {}},
		{"source-address", "", func(x *ssh.Certificate) {
			x.CriticalOptions = map[string]string{"source-address": "192.0.2.0/24,10.0.0.0/8"}
		}, func(*Grant) {}},
		{"other source-address", "", func(x *ssh.Certificate) { x.CriticalOptions = map[string]string{"source-address": "192.0.2.0/24"} }, nil},
		{"odd source-address", "", func(x *ssh.Certificate) { x.CriticalOptions = map[string]string{"source-address": "10.*"} }, nil},
		{"source-address and from", `,from="192.0.2.7"`, func(x *ssh.Certificate) { x.CriticalOptions = map[string]string{"source-address": "10.0.0.0/8"} }, nil},
		{"force-command", "", func(x *ssh.Certificate) { x.CriticalOptions = map[string]string{"force-command": "x"} }, func(g *Grant) { g.ForceCommand = "x" }},
		{"same commands", `,command="x"`, func(x *ssh.Certificate) { x.CriticalOptions = map[string]string{"force-command": "x"} }, func(g *Grant) { g.ForceCommand = "x" }},
		{"different commands", `,command="y"`, func(x *ssh.Certificate) { x.CriticalOptions = map[string]string{"force-command": "x"} }, nil},
		{"command of the line", `,command="y"`, nil, func(g *Grant) { g.ForceCommand = "y" }},
		{"line that expires first", `,expiry-time="202611241230"`, nil, func(g *Grant) { g.Expires = noon.Add(30 * time.Minute) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			cert := &ssh.Certificate{
				Key: pub.Key, CertType: ssh.UserCert, KeyId: "id", Serial: 7, ValidPrincipals: []string{"u"},
				ValidAfter: start, ValidBefore: end, Permissions: ssh.Permissions{Extensions: all},
			}
			if c.change != nil {
				c.change(cert)
			}
			if err := cert.SignCert(rand.Reader, ca); err != nil {
				t.Fatal(err)
			}
			keys := ParseAuthorizedKeys("k", []byte("cert-authority"+c.options+" "+caPub.String()+"\n"))
			r := LoginRequest{User: "u", Key: cert, Remote: netip.MustParseAddr("10.0.0.7"), Now: noon}
			got, err := keys.Authorize(r)
			if c.want == nil {
				if !errors.Is(err, ErrAuth) {
					t.Errorf("Authorize = %+v, %v, want ErrAuth", got, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err, keys.Problems)
			}
			want := Grant{PTY: true, PortForwarding: true, AgentForwarding: true, X11Forwarding: true, UserRC: true}
			c.want(&want)
			switch {
			case want.Expires.IsZero():
				want.Expires = noon.Add(time.Hour)
			case want.Expires.Unix() == 0:
				want.Expires = time.Time{}
			}
			want.Source, want.Comment, want.Fingerprint = "k:1", "the authority", pub.Fingerprint()
			want.KeyID, want.Serial, want.Authority = "id", 7, caPub.Fingerprint()
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("grant (-want +got):\n%s", diff)
			}
			r.Key = pub.Key
			if _, err := keys.Authorize(r); !errors.Is(err, ErrAuth) {
				t.Errorf("the key without its certificate: %v, want ErrAuth", err)
			}
			cert.Serial++ // what is signed is something else
			r.Key = cert
			if _, err := keys.Authorize(r); !errors.Is(err, ErrAuth) {
				t.Errorf("a forged certificate: %v, want ErrAuth", err)
			}
		})
	}
}

// x/crypto asks no touch of a security key whose certificate says that none is
// needed. In OpenSSH the line of the authority must say so as well.
func TestAuthorizeCertificatesWithoutTouch(t *testing.T) {
	_, ca, caPub := newKey(t, "")
	_, _, plain := newKey(t, "")
	sk, err := ssh.ParsePublicKey(ssh.Marshal(struct {
		Type        string
		Key         []byte
		Application string
	}{ssh.KeyAlgoSKED25519, bytes.Repeat([]byte{7}, 32), "ssh:"}))
	if err != nil {
		t.Fatal(err)
	}
	noTouch := map[string]string{"no-touch-required": ""}
	for _, c := range []struct {
		name       string
		key        ssh.PublicKey
		options    string
		extensions map[string]string
		granted    bool
		noTouch    bool
	}{
		{"touch", sk, "", nil, true, false},
		{"the line alone", sk, ",no-touch-required", nil, true, false},
		{"the certificate alone", sk, "", noTouch, false, false},
		{"both", sk, ",no-touch-required", noTouch, true, true},
		{"no security key", plain.Key, "", noTouch, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			cert := &ssh.Certificate{
				Key: c.key, CertType: ssh.UserCert, ValidPrincipals: []string{"u"},
				ValidBefore: ssh.CertTimeInfinity, Permissions: ssh.Permissions{Extensions: c.extensions},
			}
			if err := cert.SignCert(rand.Reader, ca); err != nil {
				t.Fatal(err)
			}
			keys := ParseAuthorizedKeys("k", []byte("cert-authority"+c.options+" "+caPub.String()+"\n"))
			g, err := keys.Authorize(LoginRequest{User: "u", Key: cert, Remote: netip.MustParseAddr("10.0.0.7"), Now: noon})
			if (err == nil) != c.granted || g.NoTouchRequired != c.noTouch {
				t.Errorf("Authorize = %v, %v; want granted %v, no touch %v", g.NoTouchRequired, err, c.granted, c.noTouch)
			}
		})
	}
}

func TestAuthorizeCertificateOfSSHKeygen(t *testing.T) {
	dir := t.TempDir()
	for _, kind := range []string{"ed25519", "ecdsa", "rsa"} {
		ca, key := in(dir, kind+"-ca"), in(dir, kind)
		keygen(t, "-q", "-t", kind, "-N", "", "-f", ca)
		keygen(t, "-q", "-t", kind, "-N", "", "-f", key)
		keygen(t, "-q", "-s", ca, "-I", "id", "-n", "u,v", "-V", "-1h:+1h", "-O", "force-command=x", key+".pub")
		cert, err := loadPublic(key + "-cert.pub")
		if err != nil {
			t.Fatal(err)
		}
		keys := ParseAuthorizedKeys("k", []byte("cert-authority "+read(t, ca+".pub")))
		got, err := keys.Authorize(LoginRequest{User: "v", Key: cert.Key, Now: time.Now()})
		if err != nil || got.ForceCommand != "x" || got.KeyID != "id" {
			t.Errorf("%s: Authorize = %+v, %v", kind, got, err)
		}
		// SHA-1 in the signature of an authority is refused.
		if kind == "rsa" {
			keygen(t, "-q", "-t", "ssh-rsa", "-s", ca, "-I", "id", "-n", "v", key+".pub")
			cert, err := loadPublic(key + "-cert.pub")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := keys.Authorize(LoginRequest{User: "v", Key: cert.Key, Now: time.Now()}); !errors.Is(err, ErrAuth) {
				t.Errorf("a certificate signed with SHA-1: %v, want ErrAuth", err)
			}
		}
	}
}

func FuzzParseAuthorizedKeys(f *testing.F) {
	_, _, pub := newKey(f, "comment")
	f.Add([]byte(pub.String()))
	f.Add([]byte(`restrict,from="10.0.0.0/8,!*.7",expiry-time="20300101Z",command="a \"b\"" ` + pub.String()))
	f.Add([]byte(`cert-authority,principals="a,b",environment="A=b",permitopen="h:1",tunnel="any" ` + pub.String()))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys := ParseAuthorizedKeys("k", data)
		for _, e := range keys.entries {
			if _, err := keys.Authorize(LoginRequest{User: "u", Key: e.key, Remote: netip.MustParseAddr("10.0.0.7"), Now: noon}); err != nil && !errors.Is(err, ErrAuth) {
				t.Errorf("a refusal that is no ErrAuth: %v", err)
			}
		}
	})
}
