package config

import (
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"time"
)

// serverKeys is all that transferd can be told.
type serverKeys struct {
	Server `mapstructure:",squash"`

	// The short way for one user, without a file.
	Root           string `mapstructure:"root" source:"env" kind:"path"`
	AuthorizedKeys string `mapstructure:"authorized_keys" source:"env" kind:"path"`

	single bool // Users is the one of Root and AuthorizedKeys
}

// defaultServer is the configuration of a daemon that was told nothing.
func defaultServer() Server {
	return Server{
		SSH:      SSH{Listen: []string{":2022"}},
		StateDir: serverStateDir(),
		Limits: Limits{
			Connections:      256,
			PerSource:        20,
			Handshakes:       1024,
			HandshakeTimeout: 20 * time.Second,
			IdleTimeout:      10 * time.Minute,
		},
		Partials: Partials{MaxAge: 7 * day},
		Log:      Log{Level: "info", Format: "text"},
	}
}

// allPermissions are the rights of a user for whom none are named.
func allPermissions() []string { return []string{"list", "read", "write", "delete"} }

// LoadServer reads flags, TRANSFERD_* variables and the file at path ("": no
// file; see FindServer), in this order of precedence. Its error is Faults; what
// comes with it is only good for looking for more of them.
//
// Relative file names are relative to the file that names them, else to the
// working directory.
func LoadServer(path string, flags ServerFlags) (Server, error) {
	keys := serverKeys{Server: defaultServer()}
	l := load(&keys, "TRANSFERD", path, flags.given())
	keys.completeTCP()
	problems := keys.shortWay(path)
	for i := range keys.Users {
		if keys.Users[i].Permissions == nil {
			keys.Users[i].Permissions = allPermissions()
		}
	}
	problems = append(problems, keys.validate()...)
	s := keys.Server
	s.Warnings = append(l.warnings, s.doubtful(path)...)
	if err := l.finish(problems); err != nil {
		return s, err
	}
	return s, nil
}

func (f ServerFlags) given() map[string][]string {
	given := map[string][]string{}
	if len(f.SSHListen) > 0 {
		given["ssh.listen"] = f.SSHListen
	}
	if len(f.TCPListen) > 0 {
		given["tcp.listen"] = f.TCPListen
	}
	for key, value := range map[string]string{
		"root": f.Root, "authorized_keys": f.AuthorizedKeys, "state_dir": f.StateDir,
		"log.level": f.LogLevel, "log.format": f.LogFormat,
	} {
		if value != "" {
			given[key] = []string{value}
		}
	}
	return given
}

const (
	tcpPort = "2023"

	// noListen stands for no address where a list cannot be empty: in a flag
	// and in a variable.
	noListen = "none"
)

// completeTCP fills in where TCP is listened on. Who names addresses for SSH
// alone did not mean to be reachable elsewhere, so the hosts are the same.
func (k *serverKeys) completeTCP() {
	switch t := &k.TCP; {
	case len(t.Listen) == 1 && t.Listen[0] == noListen:
		t.Listen = []string{}
	case t.Listen == nil:
		t.Implied = true
		for _, address := range k.SSH.Listen {
			host, port, err := net.SplitHostPort(address)
			if err != nil {
				continue // which is a fault of ssh.listen
			}
			if port != "0" {
				port = tcpPort
			}
			address = net.JoinHostPort(host, port)
			if port == "0" || !slices.Contains(t.Listen, address) {
				t.Listen = append(t.Listen, address)
			}
		}
	}
}

// shortWay makes the one user of --root and --authorized-keys: the account that
// started the daemon.
func (k *serverKeys) shortWay(path string) []problem {
	given := map[string]string{"root": k.Root, "authorized_keys": k.AuthorizedKeys}
	var problems []problem
	for _, key := range []string{"root", "authorized_keys"} {
		if given[key] != "" && len(k.Users) > 0 {
			problems = append(problems, problem{key, fmt.Sprintf(
				"%s serves a single user and cannot stand beside the users: list of %s; leave out one of the two, or name another file with --config",
				flagName(key), path)})
		}
	}
	switch {
	case problems != nil || k.Root == "" && k.AuthorizedKeys == "":
		if path == "" && len(k.Users) == 0 {
			problems = append(problems, problem{"users", "there are none, so nobody could log in; give --root DIR --authorized-keys FILE, or --config FILE with a users: list (transferd init writes one)"})
		}
		return problems
	case k.Root == "":
		return []problem{{"authorized_keys", "needs --root DIR, the directory to serve"}}
	case k.AuthorizedKeys == "":
		return []problem{{"root", "needs --authorized-keys FILE, the keys that may log in"}}
	}
	name, err := account()
	if err != nil {
		return []problem{{"root", fmt.Sprintf("the account that runs this has no name (%v); write a users: list instead", err)}}
	}
	k.single = true
	k.Users = []User{{Name: name, Root: k.Root, AuthorizedKeysFile: k.AuthorizedKeys}}
	return nil
}

// account is the name of the account that runs this process.
func account() (string, error) {
	u, err := user.Current()
	if err == nil && u.Username != "" {
		return u.Username, nil
	}
	if name := os.Getenv("USER"); name != "" {
		return name, nil
	}
	return "", err
}

// doubtful says what is legal and yet hardly meant in s, read from file.
func (s Server) doubtful(file string) []string {
	var list []string
	if len(s.Users) == 0 {
		list = append(list, "users: there are none, nobody can log in")
	}
	for _, u := range s.Users {
		below := func(path string) bool {
			in, err := reaches(path, u.Root)
			return err == nil && in
		}
		if below(filepath.Join(s.StateDir, "host_key")) {
			list = append(list, fmt.Sprintf("state_dir %s lies below the root of %s, who can get at the host key there; move one of the two", s.StateDir, u.Name))
		}
		for _, key := range s.SSH.HostKeys {
			if below(key) {
				list = append(list, fmt.Sprintf("the host key %s lies below the root of %s, who can get at it; move one of the two", key, u.Name))
			}
		}
		if abs, err := filepath.Abs(file); file != "" && err == nil && u.canChange() && below(abs) {
			list = append(list, fmt.Sprintf("%s lies below the root of %s, who can change it and so let in anyone, to anything; move one of the two", file, u.Name))
		}
	}
	return list
}
