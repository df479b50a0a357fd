package config

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// FuzzLoad feeds files to both loaders: they end without a panic, and their
// errors are Faults that name the file.
func FuzzLoad(f *testing.F) {
	for _, name := range []string{"c.yaml", "c.toml", "c.json"} {
		for _, text := range []string{
			"", "users:", "a: &a [*a]", "{}", "[]", "null", "\x00", "- - - -", "ssh.listen: []", "? [a]: b\n",
			ServerTemplate(Template{Users: []User{{Name: "a", Root: "/", AuthorizedKeysFile: "/k"}}}), ClientTemplate(),
			"limits: {idle_timeout: 0, connections: 1e99}", "users: [1, {name: 2024-01-01}, ~]", "log: {1: 2, true: 3}",
			"bwlimit = 1\n[[hosts]]\nname = 'x'\n", `{"bwlimit": "1MiB", "hosts": [{"port": 1.5}], "streams": 1e300}`,
			"x: &x {a: 1}\nlimits: {<<: *x}\n",
		} {
			f.Add(name, []byte(text))
		}
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		if filepath.Base(name) != name || len(name) > 100 || name == "." || name == ".." {
			return
		}
		path := filepath.Join(dir, "x"+name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			return // a name that the system does not take
		}
		_, serverErr := LoadServer(path, ServerFlags{StateDir: "/s"})
		_, clientErr := LoadClient(path, nil)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		for _, err := range []error{serverErr, clientErr} {
			faults, ok := errors.AsType[Faults](err)
			if err != nil && (!ok || len(faults) == 0) {
				t.Fatalf("load: %v (%T), want Faults", err, err)
			}
			for _, fault := range faults {
				if fault.File != path || fault.Problem == "" {
					t.Errorf("fault %+v, want it to name the file and the remedy", fault)
				}
			}
		}
	})
}

// FuzzParse reads sizes and durations, and back what it writes.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"0", "80MiB", "1.5GB", "7d", "1d12h", "20s", "-1s", "1e9B", "9999999999d", "8EiB", "d", "B"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := ParseSize(s); err == nil {
			if back, err := ParseSize(FormatSize(n)); n < 0 || err != nil || back != n && n < 1<<53 {
				t.Errorf("ParseSize(%q) = %d, and FormatSize makes %q of it", s, n, FormatSize(n))
			}
		}
		if d, err := ParseDuration(s); err == nil {
			if back, err := ParseDuration(FormatDuration(d)); d < 0 || err != nil || back != d {
				t.Errorf("ParseDuration(%q) = %v, and FormatDuration makes %q of it", s, d, FormatDuration(d))
			}
		}
	})
}
