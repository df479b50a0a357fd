// Package config reads the settings of transferd and transfer from flags, the
// environment and a file, and hands out plain validated structs. It never
// writes a file, and nobody else uses viper.
//
// A setting is taken from the first that has it: flag, environment variable,
// file, default. Everything that is wrong is reported at once, as Faults.
//
// The fields' mapstructure tags are the keys of the file. What kind of value a
// key takes follows from the Go type: time.Duration is a duration with its unit
// ("20s", "7d"), int64 a size or rate with its unit ("80MiB", "1GB"), int a
// count. A size or duration of 0 needs no unit and means no limit.
package config

import "time"

// Server is the complete, validated configuration of transferd. It is only made
// by LoadServer and never changed afterwards, so it is safe to share.
type Server struct {
	SSH      SSH      `mapstructure:"ssh"`
	TCP      TCP      `mapstructure:"tcp"`
	StateDir string   `mapstructure:"state_dir" kind:"path"` // absolute; need not exist yet
	Users    []User   `mapstructure:"users"`                 // a list: viper lower-cases map keys
	Limits   Limits   `mapstructure:"limits"`
	Partials Partials `mapstructure:"partials"`
	Log      Log      `mapstructure:"log"`

	// Warnings are for the log: what is legal and yet hardly meant.
	Warnings []string `mapstructure:"-"`
}

// SSH says where the SSH server listens and who it is.
type SSH struct {
	Listen   []string `mapstructure:"listen"`                // host:port; port 0 takes a free one
	HostKeys []string `mapstructure:"host_keys" kind:"path"` // private key files; none: one made in the state directory
}

// TCP says where our own protocol is spoken on raw TCP.
type TCP struct {
	Listen []string `mapstructure:"listen"` // host:port; port 0 takes a free one; empty: nowhere

	// Implied says that nobody named the addresses: the daemon does without
	// where they are taken.
	Implied bool `mapstructure:"-"`
}

// A User may log in with a key and then sees the tree at Root, nothing else.
type User struct {
	Name string `mapstructure:"name"`
	Root string `mapstructure:"root" kind:"path"` // an existing directory, absolute

	// Exactly one of these is set. The file lies outside every writable root.
	AuthorizedKeysFile string   `mapstructure:"authorized_keys_file" kind:"path"`
	AuthorizedKeys     []string `mapstructure:"authorized_keys"`

	Permissions []string `mapstructure:"permissions"` // of list, read, write, delete; never empty
}

// Limits bounds what clients may use. 0 is no limit, in every field.
type Limits struct {
	Connections      int           `mapstructure:"connections"` // authenticated ones
	PerSource        int           `mapstructure:"per_source"`  // authenticated ones of one address
	Handshakes       int           `mapstructure:"handshakes"`  // unfinished ones, a pool of their own
	HandshakeTimeout time.Duration `mapstructure:"handshake_timeout"`
	IdleTimeout      time.Duration `mapstructure:"idle_timeout"`
}

// Partials says how long the begun part of an upload is kept.
type Partials struct {
	MaxAge time.Duration `mapstructure:"max_age"` // since the last write; 0: for ever
}

// Log says what is logged, and how.
type Log struct {
	Level  string `mapstructure:"level"`  // debug, info, warn or error
	Format string `mapstructure:"format"` // text or json
}

// Client is the complete, validated configuration of transfer. It is only made
// by LoadClient.
type Client struct {
	BWLimit   int64         `mapstructure:"bwlimit"`   // bytes a second over all streams; 0: no limit
	Streams   int           `mapstructure:"streams"`   // 0: adapt
	Retries   int           `mapstructure:"retries"`   // after a lost connection, within one run
	Timeout   time.Duration `mapstructure:"timeout"`   // of connecting; 0: what ssh_config says, else transport's own
	Verify    string        `mapstructure:"verify"`    // fast or full
	Fsync     string        `mapstructure:"fsync"`     // auto, always or off
	Overwrite string        `mapstructure:"overwrite"` // always, never or newer
	Sparse    string        `mapstructure:"sparse"`    // auto or off
	Compress  string        `mapstructure:"compress"`  // auto, zstd or off
	Progress  string        `mapstructure:"progress"`  // auto, bar, plain or none

	HostKeyCheck string `mapstructure:"host_key_check"`          // strict, accept-new, ask or off; "": not said here
	KnownHosts   string `mapstructure:"known_hosts" kind:"path"` // "": not said here
	SSHConfig    string `mapstructure:"ssh_config" kind:"path"`  // "": ~/.ssh/config; "none": no file
	StateDir     string `mapstructure:"state_dir" kind:"path"`   // absolute; need not exist yet
	Hosts        []Host `mapstructure:"hosts"`

	// Connection is what flags and the environment say about every server
	// alike, and so comes before Hosts. A file cannot say it: there it belongs
	// under hosts, or in ssh_config.
	Connection Connection `mapstructure:",squash"`

	// Warnings are for stderr: what is legal and yet hardly meant.
	Warnings []string `mapstructure:"-"`
}

// Connection says how servers are reached. A zero field says nothing.
type Connection struct {
	User      string   `mapstructure:"user" source:"env"`
	Port      int      `mapstructure:"port" source:"env" kind:"port"`
	Jump      string   `mapstructure:"jump" source:"env"`
	Transport string   `mapstructure:"transport" source:"env"` // auto, tcp, ssh or sftp
	Identity  []string `mapstructure:"identity" source:"env" alias:"identities" kind:"path"`
}

// A Host is what the client's file says of one server. A zero field says
// nothing.
type Host struct {
	Name          string   `mapstructure:"name"`    // as typed before the colon of a target
	Address       string   `mapstructure:"address"` // "": Name itself
	User          string   `mapstructure:"user"`
	Port          int      `mapstructure:"port" kind:"port"`
	TCPPort       int      `mapstructure:"tcp_port" kind:"port"` // of our own protocol
	Jump          string   `mapstructure:"jump"`
	Transport     string   `mapstructure:"transport"` // auto, tcp, ssh or sftp
	Identities    []string `mapstructure:"identities" kind:"path"`
	RemoteCommand string   `mapstructure:"remote_command"` // what starts transferd there; "": transferd
}

// ServerFlags is what was given on transferd's command line. A zero field was
// not given.
type ServerFlags struct {
	SSHListen      []string
	TCPListen      []string
	Root           string
	AuthorizedKeys string
	StateDir       string
	LogLevel       string
	LogFormat      string
}

// ClientFlags is what was given on transfer's command line: the text of every
// flag that was given, under the name of its key. Flags of no key in Client
// (such as "recursive") do not belong here.
type ClientFlags map[string][]string
