package archtest

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "transferd/"

// allowed lists, for every package, what it may import from this module. A
// package that is not listed fails the test, and so does one that is listed and
// does not exist. The table of docs/ARCHITECTURE.md says the same in words.
var allowed = map[string][]string{
	"auth":     {},
	"config":   {},
	"protocol": {},

	"internal/tree":     {},
	"internal/wire":     {},
	"internal/transfer": {"internal/tree"},
	"internal/store":    {"internal/tree"},
	"internal/session":  {"auth", "internal/tree"},

	"internal/admission": {"auth", "internal/session"},

	"internal/transport/native": {"internal/tree", "protocol"},
	"internal/transport/sftp":   {"internal/tree"},
	"internal/transport":        {"auth", "internal/transport/native", "internal/transport/sftp", "internal/tree", "internal/wire", "protocol"},

	"internal/sshd": {"auth", "internal/admission", "internal/session", "internal/transport/native", "internal/transport/sftp", "internal/tree", "internal/wire", "protocol"},
	"internal/tcpd": {"auth", "internal/admission", "internal/session", "internal/transport/native", "internal/tree", "internal/wire", "protocol"},
	"internal/daemon": {
		"auth", "config", "internal/admission", "internal/session", "internal/sshd", "internal/store", "internal/tcpd", "internal/transport/native",
		"internal/transport/sftp", "internal/tree", "protocol",
	},

	"cmd/transferd": {"config", "internal/daemon"},
	"cmd/transfer":  {"auth", "config", "internal/store", "internal/transfer", "internal/transport", "internal/tree"},

	"bench":                  {"bench/wan"},
	"bench/wan":              {},
	"internal/archtest":      {},
	"internal/interop":       {},
	"internal/testnet":       {},
	"internal/testpeer":      {},
	"internal/tree/treetest": {"internal/tree"},
}

// forTests are the packages that any test may import, besides what its package
// may. No program links them.
var forTests = []string{"internal/testnet", "internal/testpeer", "internal/tree/treetest"}

// alsoInTests lists what the tests of a package may import beyond that.
var alsoInTests = map[string][]string{
	"internal/session":  {"internal/store"}, // the tree beneath, for the conformance suite
	"internal/transfer": {"internal/store"}, // real trees, to lose and corrupt things in

	// What the server serves and what a client copies, to break connections at
	// every byte of, and TLS as it lies on wire.
	"internal/transport/native": {"internal/session", "internal/store", "internal/transfer", "internal/wire"},
}

// only lists the packages that may import a dependency, or anything below it,
// directly.
var only = map[string][]string{
	"github.com/spf13/viper":  {"config"},
	"github.com/pkg/sftp":     {"internal/transport/sftp"},
	"golang.org/x/crypto/ssh": {"auth", "internal/admission", "internal/sshd", "internal/tcpd", "internal/transport"},
}

// onlyInTests lists the packages whose tests may do so too.
var onlyInTests = map[string][]string{
	"golang.org/x/crypto/ssh": {"internal/interop"}, // raw packets of a hostile client
}

// A listed package is one as `go list -json` prints it.
type listed struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

func TestImports(t *testing.T) {
	for _, test := range []struct {
		goos     string
		packages []string
	}{
		{"linux", []string{module + "..."}},
		// The client runs there too, and has files of its own for it.
		{"darwin", clientPackages()},
		{"windows", clientPackages()},
	} {
		t.Run(test.goos, func(t *testing.T) {
			seen := map[string]bool{}
			for _, p := range list(t, test.goos, test.packages...) {
				name := strings.TrimPrefix(p.ImportPath, module)
				seen[name] = true
				check(t, name, p)
			}
			for name := range allowed {
				if test.goos == "linux" && !seen[name] {
					t.Errorf("%s: listed in archtest, but there is no such package", name)
				}
			}
		})
	}
}

// clientPackages is cmd/transfer with everything that it may link.
func clientPackages() []string {
	paths := []string{module + "cmd/transfer"}
	for _, name := range allowed["cmd/transfer"] {
		paths = append(paths, module+name)
	}
	return append(paths, module+"internal/transport/sftp")
}

// list returns the packages that patterns name, as they are built for goos.
func list(t *testing.T, goos string, patterns ...string) []listed {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-json=ImportPath,Imports,TestImports,XTestImports"}, patterns...)...)
	cmd.Env = append(os.Environ(), "GOOS="+goos, "CGO_ENABLED=0")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, stderr.String())
	}
	var packages []listed
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

func check(t *testing.T, name string, p listed) {
	t.Helper()
	rule, ok := allowed[name]
	if !ok {
		t.Errorf("%s: not listed in archtest and docs/ARCHITECTURE.md", name)
		return
	}
	for _, imp := range p.Imports {
		if ours, ok := strings.CutPrefix(imp, module); ok && !slices.Contains(rule, ours) {
			t.Errorf("%s must not import %s", name, ours)
		}
		if dep, who := keepers(imp); dep != "" && !slices.Contains(who, name) {
			t.Errorf("%s must not import %s; only %v may", name, imp, who)
		}
	}
	inTests := slices.Concat(rule, forTests, alsoInTests[name], []string{name})
	for _, imp := range slices.Concat(p.TestImports, p.XTestImports) {
		if ours, ok := strings.CutPrefix(imp, module); ok && !slices.Contains(inTests, ours) {
			t.Errorf("tests of %s must not import %s", name, ours)
		}
		if dep, who := keepers(imp); dep != "" && !slices.Contains(slices.Concat(who, onlyInTests[dep]), name) {
			t.Errorf("tests of %s must not import %s; only those of %v may", name, imp, who)
		}
	}
}

// keepers returns the dependency of only that imp belongs to, and who may have
// it; "" if everybody may.
func keepers(imp string) (dep string, who []string) {
	for dep, who := range only {
		if imp == dep || strings.HasPrefix(imp, dep+"/") {
			return dep, who
		}
	}
	return "", nil
}

// TestKeepers makes sure that sub-packages count.
func TestKeepers(t *testing.T) {
	for imp, want := range map[string]string{
		"golang.org/x/crypto/ssh":            "golang.org/x/crypto/ssh",
		"golang.org/x/crypto/ssh/knownhosts": "golang.org/x/crypto/ssh",
		"golang.org/x/crypto/sshx":           "",
		"golang.org/x/crypto/blake2b":        "",
		"github.com/spf13/viper":             "github.com/spf13/viper",
	} {
		if got, _ := keepers(imp); got != want {
			t.Errorf("keepers(%q) = %q, want %q", imp, got, want)
		}
	}
}
