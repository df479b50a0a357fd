package main

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"transferd/internal/transfer"
	"transferd/internal/transport"
	"transferd/internal/tree"
)

func TestErrorsNameTheOperandAsItWasWrittenAndOnce(t *testing.T) {
	t.Parallel()
	missing := func(op, path string) error { return &fs.PathError{Op: op, Path: path, Err: fs.ErrNotExist} }
	tests := []struct {
		name, operand string
		path          tree.Path
		err           error
		want          string
	}{
		{
			"named before", "root@h:/nope", "nope",
			fmt.Errorf("root@h:/nope: %w", missing("stat", "root@h:2022:/nope")), "root@h:/nope: no such file or directory",
		},
		{"alone", "h:dir/nope", "home/dir/nope", missing("open", "root@h:2022:/home/dir/nope"), "h:dir/nope: no such file or directory"},
		{"alone, not looked at", "h:nope", "nope", missing("mkdir", "root@h:2022:/nope"), "mkdir h:nope: no such file or directory"},
		{"below the home", "h:", "", fmt.Errorf("a: %w", missing("write", "root@h:2022:/q/r")), "a: write h:q/r: no such file or directory"},
		{
			"below the operand", "h:full", "full",
			fmt.Errorf("h:full: %w", missing("remove", "root@h:2022:/full/b")), "remove h:full/b: no such file or directory",
		},
		{"elsewhere on the server", "u@h:d/x", "d/x", missing("stat", "root@h:2022:/other"), "u@h:/other: no such file or directory"},
		{"by URL", "ssh://h:2022/d/x", "d/x", missing("stat", "root@h:2022:/other"), "ssh://h:2022/other: no such file or directory"},
		{"of another server", "h:x", "x", missing("stat", "root@g:22:/x"), "root@g:22:/x: no such file or directory"},
		{"not of a path", "h:x", "x", fmt.Errorf("h:x: %w", fs.ErrExist), "h:x: file exists"},
		{"neither", "h:x", "x", errors.New("something else"), "something else"},
		{
			"several", "h:x", "x",
			errors.Join(missing("stat", "root@h:2022:/x"), missing("stat", "root@h:2022:/x/y")),
			"h:x: no such file or directory\nh:x/y: no such file or directory",
		},
		{"told already", "h:x", "x", toldError{missing("stat", "root@h:2022:/x")}, "stat root@h:2022:/x: file does not exist"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			target, err := transport.ParseTarget(tt.operand)
			if err != nil {
				t.Fatal(err)
			}
			var n names
			n.add(target, transfer.Place{Label: tt.operand, Path: tt.path, Host: "root@h:2022"})
			got := n.words(tt.err)
			if got.Error() != tt.want {
				t.Errorf("words(%q) = %q, want %q", tt.err, got, tt.want)
			}
			if errors.Is(tt.err, fs.ErrNotExist) != errors.Is(got, fs.ErrNotExist) {
				t.Errorf("words(%q) loses its cause", tt.err)
			}
		})
	}
}

func TestMentions(t *testing.T) {
	t.Parallel()
	tests := []struct {
		text, name string
		want       bool
	}{
		{"a: no such file", "a", true},
		{"stat /data: no such file", "a", false},
		{"d/a: no", "a", false},
		{"a/b: no", "a", false},
		{"a/: no", "a", true},
		{"srv:a to srv:b: no", "srv:b", true},
		{"srv:a to srv:b: no", "srv", true},
		{"what goes to srv:a", "srv:a", true},
		{"ab a", "a", true},
		{"", "a", false},
		{"a", "", false},
	}
	for _, tt := range tests {
		if got := mentions(tt.text, tt.name); got != tt.want {
			t.Errorf("mentions(%q, %q) = %v, want %v", tt.text, tt.name, got, tt.want)
		}
	}
}
