package config

import (
	_ "embed" // for the templates
	"strconv"
	"strings"
)

//go:embed transferd.yaml
var serverTemplate string

//go:embed transfer.yaml
var clientTemplate string

// A Template fills in the file that transferd init writes. Its zero value is
// useful: then state directory and users stand in comments only.
type Template struct {
	StateDir string
	Users    []User // with Name, Root and AuthorizedKeysFile; the rest is not written
}

// ServerTemplate returns a commented YAML file that LoadServer accepts.
func ServerTemplate(t Template) string {
	text := serverTemplate
	if t.StateDir != "" {
		text = strings.Replace(text, "# state_dir: /var/lib/transferd", "state_dir: "+strconv.Quote(t.StateDir), 1)
	}
	if len(t.Users) == 0 {
		return text
	}
	var users strings.Builder
	users.WriteString("users:\n")
	for _, u := range t.Users {
		// JSON strings are YAML strings, whatever is in them.
		users.WriteString("  - name: " + strconv.Quote(u.Name) + "\n")
		users.WriteString("    root: " + strconv.Quote(u.Root) + "\n")
		users.WriteString("    authorized_keys_file: " + strconv.Quote(u.AuthorizedKeysFile) + "\n")
	}
	return strings.Replace(text, "users: []\n", users.String(), 1)
}

// ClientTemplate returns a commented YAML file that LoadClient accepts.
func ClientTemplate() string { return clientTemplate }
