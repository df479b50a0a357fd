package config

// LoadServer reads the file at path ("": none, see FindServer), TRANSFERD_*
// variables and flags. Its error is Faults.
func LoadServer(path string, flags ServerFlags) (Server, error) { return Server{}, nil }

// LoadClient reads the file at path ("": none, see FindClient), TRANSFER_*
// variables and flags. Its error is Faults.
func LoadClient(path string, flags ClientFlags) (Client, error) { return Client{}, nil }

// ShowClient says of every key its value and where that comes from.
func ShowClient(path string, flags ClientFlags) ([]Setting, error) { return nil, nil }

// A Setting is one key with its value, and where that comes from.
type Setting struct {
	Key    string `json:"key"`
	Value  any    `json:"value"`
	Origin string `json:"origin"`           // flag, env, file or default
	Source string `json:"source,omitempty"` // the flag, the variable, or the file and line
}

// A Fault is one thing that is wrong.
type Fault struct {
	File    string // "" for flags and variables
	Line    int    // 0: not known
	Key     string
	Source  string // the flag or the variable
	Problem string
	Remedy  string
}

// Faults is the error of LoadServer and LoadClient: everything that is wrong.
type Faults []Fault

func (f Faults) Error() string { return "" }

// FindServer returns the file that transferd reads: flag if not "", else
// $TRANSFERD_CONFIG, else the first of ServerFiles that exists, else "".
func FindServer(flag string) string { return "" }

// FindClient returns the file that transfer reads: flag if not "", else
// $TRANSFER_CONFIG, else ClientFile if that exists, else "".
func FindClient(flag string) string { return "" }

// ServerFile is where transferd init writes when nothing else is said.
func ServerFile() (string, error) { return "", nil }

// ClientFile is where transfer config init writes when nothing else is said.
func ClientFile() (string, error) { return "", nil }

// A Template fills in the commented file that transferd init writes. Its zero
// value is useful: no user then, only one in a comment.
type Template struct {
	StateDir string
	User     User
}

// ServerTemplate returns a commented YAML file that LoadServer accepts.
func ServerTemplate(t Template) string { return "" }

// ClientTemplate returns a commented YAML file that LoadClient accepts.
func ClientTemplate() string { return "" }

// ParseSize reads bytes, or bytes a second, with a unit: 80MiB, 1GB, 512B. 0
// needs none.
func ParseSize(s string) (int64, error) { return 0, nil }
