package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"

	"transferd/internal/tree"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"transfer": main})
}

// quickExit keeps a process with the race detector from waiting a second at its
// end for goroutines that may still race.
const quickExit = "atexit_sleep_ms=0"

// TestScripts runs the command lines in testdata as a person would type them.
func TestScripts(t *testing.T) {
	testscript.Run(t, scriptParams("testdata"))
}

// scriptParams are what the scripts in dir know beside testscript's commands.
func scriptParams(dir string) testscript.Params {
	return testscript.Params{
		Dir: dir,
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", filepath.Join(env.WorkDir, "home"))
			env.Setenv("TZ", "UTC")
			env.Setenv("GORACE", quickExit)
			return os.Mkdir(filepath.Join(env.WorkDir, "home"), 0o700)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"code":       cmdCode,
			"same":       cmdSame,
			"nopartials": cmdNoPartials,
			"oddtree":    cmdOddTree,
			"touch":      cmdTouch,
			"events":     cmdEvents,
			"filesize":   cmdFileSize,
		},
		RequireExplicitExec: true,
	}
}

// cmdCode runs a command and checks its exit code: code 5 transfer stat x.
func cmdCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N command...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		coded, ok := errors.AsType[interface {
			error
			ExitCode() int
		}](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = coded.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// cmdSame checks that two files or trees are alike in bytes, modes, times,
// names and links: same A B [-notimes|-seconds].
func cmdSame(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: same A B [-notimes|-seconds]")
	}
	layout := time.RFC3339Nano
	switch args[len(args)-1] {
	case "-notimes":
		layout = ""
	case "-seconds":
		layout = time.RFC3339
	}
	a, b := describeTree(ts, ts.MkAbs(args[0]), layout), describeTree(ts, ts.MkAbs(args[1]), layout)
	diff := cmp.Diff(a, b)
	if neg && diff == "" {
		ts.Fatalf("%s and %s are the same", args[0], args[1])
	}
	if !neg && diff != "" {
		ts.Fatalf("%s and %s differ (-first +second):\n%s", args[0], args[1], diff)
	}
}

// describeTree returns what is at root by relative name, times in a layout of
// package time.
func describeTree(ts *testscript.TestScript, root, layout string) map[string]string {
	found := map[string]string{}
	ts.Check(filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		text := info.Mode().String()
		if info.Mode().Type() != fs.ModeSymlink {
			text += " " + info.ModTime().UTC().Format(layout)
		}
		switch {
		case info.Mode().IsRegular():
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text += " " + string(data)
		case info.Mode().Type() == fs.ModeSymlink:
			link, err := os.Readlink(path)
			if err != nil {
				return err
			}
			text += " -> " + link
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		found[name] = text
		return nil
	}))
	return found
}

// cmdNoPartials checks that nothing unfinished is left below a directory.
func cmdNoPartials(ts *testscript.TestScript, neg bool, args []string) {
	left := false
	for _, dir := range args {
		ts.Check(filepath.WalkDir(ts.MkAbs(dir), func(path string, _ fs.DirEntry, err error) error {
			if tree.IsPartialName(filepath.Base(path)) {
				left = true
				ts.Logf("left: %s", path)
			}
			return err
		}))
	}
	if left != neg {
		ts.Fatalf("partials left: %v", left)
	}
}

// cmdOddTree makes a directory full of what file names and modes may be.
func cmdOddTree(ts *testscript.TestScript, _ bool, args []string) {
	root := ts.MkAbs(args[0])
	names := []string{
		"plain", "with space", " ", "new\nline", "tab\t", "bad\xff\xfeutf8", "\x1b[2Jclear", "-dash", "--json", "~", "*", "[a]", "a:b",
		`back\slash`, `"quote'`, strings.Repeat("x", 255), strings.Repeat("日", 85), "...", ".hidden", ".transfer-", "größe",
	}
	ts.Check(os.MkdirAll(root, 0o755))
	when := time.Date(2001, 2, 3, 4, 5, 6, 123456789, time.UTC)
	for i, name := range names {
		path := filepath.Join(root, name)
		ts.Check(os.WriteFile(path, bytes.Repeat([]byte(name), i), 0o600))
		ts.Check(os.Chmod(path, fs.FileMode(0o400+i%0o400)))
		ts.Check(os.Chtimes(path, when, when.Add(time.Duration(i)*time.Hour)))
		dir := filepath.Join(root, "d", name)
		ts.Check(os.MkdirAll(dir, 0o755))
		ts.Check(os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644))
		ts.Check(os.Symlink("../"+name, filepath.Join(root, "d", "link "+strconv.Itoa(i))))
		ts.Check(os.Chtimes(dir, when, when.Add(time.Duration(i)*time.Minute)))
	}
	ts.Check(os.Mkdir(filepath.Join(root, "empty"), 0o700))
	ts.Check(os.Symlink("/nowhere", filepath.Join(root, "dangling")))
	readOnly := filepath.Join(root, "read-only")
	ts.Check(os.Mkdir(readOnly, 0o755))
	ts.Check(os.WriteFile(filepath.Join(readOnly, "f"), []byte("f"), 0o444))
	ts.Check(os.Chmod(readOnly, 0o555)) // testscript makes it writable again to remove it
	ts.Check(os.Chtimes(root, when, when))
}

// cmdTouch sets the time of a file to a number of seconds since 1970.
func cmdTouch(ts *testscript.TestScript, _ bool, args []string) {
	seconds, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	ts.Check(os.Chtimes(ts.MkAbs(args[0]), time.Unix(seconds, 0), time.Unix(seconds, 0)))
}

// cmdFileSize makes a file of so many bytes that no chunk of it repeats another.
func cmdFileSize(ts *testscript.TestScript, _ bool, args []string) {
	size, err := strconv.Atoi(args[1])
	ts.Check(err)
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(i ^ i>>8 ^ i>>16)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), data, 0o644))
}

// cmdEvents checks what --json wrote to a file: every line is an object with an
// event, the events are the given ones in this order (progress left out).
func cmdEvents(ts *testscript.TestScript, _ bool, args []string) {
	var got []string
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		var object map[string]any
		if err := json.Unmarshal([]byte(line), &object); err != nil {
			ts.Fatalf("%q is no JSON object: %v", line, err)
		}
		event, ok := object["event"].(string)
		if !ok {
			ts.Fatalf("%q has no event", line)
		}
		if event != "progress" {
			got = append(got, event)
		}
	}
	if diff := cmp.Diff(args[1:], got); diff != "" {
		ts.Fatalf("events (-want +got):\n%s", diff)
	}
}
