package main

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"transferd/internal/transfer"
	"transferd/internal/transport"
	"transferd/internal/tree"
)

// A names knows how the person wrote the operands of a command, and words
// errors with that: what trees say of themselves ("stat root@h:2022:/x: file
// does not exist") is no target that anybody could type. It is safe for
// concurrent use.
type names struct {
	mu    sync.Mutex
	known []knownName
}

// A knownName is an operand as its tree and as the person calls it.
type knownName struct {
	own    string // no slash at its end
	label  string
	server string // of a remote one: what own begins with, up to the path
	prefix string // and what the person wrote for that
}

// add makes the operand known that became place.
func (n *names) add(target transport.Target, place transfer.Place) {
	k := knownName{label: place.Label}
	path := "/" + string(place.Path)
	switch {
	case place.Path == tree.Root:
		path = "/"
	case !target.Remote() && filepath.Separator == '\\':
		path = string(place.Path)
	}
	if target.Remote() {
		k.server = place.Host + ":"
		k.prefix = strings.TrimSuffix(target.Raw, target.Path)
		if target.URL() {
			k.prefix = target.Raw
			if _, rest, ok := strings.Cut(target.Raw, "://"); ok {
				host, _, _ := strings.Cut(rest, "/")
				k.prefix = target.Raw[:len(target.Raw)-len(rest)] + host
			}
		}
	}
	k.own = strings.TrimRight(k.server+path, "/")
	n.mu.Lock()
	defer n.mu.Unlock()
	n.known = append(n.known, k)
}

// of returns the person's name for what a tree calls path.
func (n *names) of(path string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	best, name := -1, path
	for _, k := range n.known {
		rest, ok := strings.CutPrefix(path, k.own)
		switch {
		case ok && len(k.own) > best && (rest == "" || rest == "/"):
			best, name = len(k.own), k.label
		case ok && len(k.own) > best && rest[0] == '/':
			best, name = len(k.own), inside(k.label, rest[1:])
		case best < 0 && k.server != "" && strings.HasPrefix(path, k.server):
			name = k.prefix + path[len(k.server):]
		}
	}
	return name
}

// A wordedError is an error in the person's words.
type wordedError struct {
	text string
	err  error
}

func (e *wordedError) Error() string { return e.text }
func (e *wordedError) Unwrap() error { return e.err }

// words returns err with names as the person wrote them, each of them once.
func (n *names) words(err error) error {
	if err == nil || errors.As(err, new(toldError)) {
		return err
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok && isJoin(err) {
		var errs []error
		for _, e := range joined.Unwrap() {
			errs = append(errs, n.words(e))
		}
		return errors.Join(errs...)
	}
	text := err.Error()
	for _, pe := range pathErrors(err) {
		text = n.reword(text, pe)
	}
	if text = plainly(text, err); text == err.Error() {
		return err
	}
	return &wordedError{text, err}
}

// reword puts pe, which is somewhere in text, into other words.
func (n *names) reword(text string, pe *fs.PathError) string {
	head, tail, ok := strings.Cut(text, pe.Error())
	if !ok {
		return text
	}
	name, why := n.of(pe.Path), plainly(pe.Err.Error(), pe.Err)
	operand := strings.TrimSuffix(head, ": ")
	looked := pe.Op == "stat" || pe.Op == "lstat" || pe.Op == "open"
	switch {
	case mentions(head, strings.TrimRight(name, "/")):
		return head + why + tail
	case operand != "" && strings.HasPrefix(name, inside(operand, "")):
		head = "" // the operand is the beginning of the name that follows
	case head == "" && looked:
		return name + ": " + why + tail
	}
	return head + pe.Op + " " + name + ": " + why + tail
}

// pathErrors returns the outermost PathErrors in err.
func pathErrors(err error) []*fs.PathError {
	switch e := err.(type) { //nolint:errorlint // the tree of errors is walked here
	case *fs.PathError:
		return []*fs.PathError{e}
	case interface{ Unwrap() error }:
		return pathErrors(e.Unwrap())
	case interface{ Unwrap() []error }:
		var all []*fs.PathError
		for _, one := range e.Unwrap() {
			all = append(all, pathErrors(one)...)
		}
		return all
	}
	return nil
}

// plainly ends text, which is that of err, as the system does where Go has words
// of its own: the same thing is always called the same.
func plainly(text string, err error) string {
	for _, w := range []struct {
		is    error
		words string
	}{
		{fs.ErrNotExist, "no such file or directory"},
		{fs.ErrExist, "file exists"},
	} {
		if head, ok := strings.CutSuffix(text, w.is.Error()); ok && errors.Is(err, w.is) {
			return head + w.words
		}
	}
	return text
}

// mentions reports whether name stands in text, not just as a part of another.
func mentions(text, name string) bool {
	if name == "" {
		return false
	}
	for at := 0; ; {
		i := strings.Index(text[at:], name)
		if i < 0 {
			return false
		}
		before, _ := utf8.DecodeLastRuneInString(text[:at+i])
		after, _ := utf8.DecodeRuneInString(strings.TrimPrefix(text[at+i+len(name):], "/"))
		if !slices.ContainsFunc([]rune{before, after}, partOfName) {
			return true
		}
		at += i + 1
	}
}

// partOfName reports whether r beside a name makes it a part of a longer one. A
// colon does not: it stands behind names in messages.
func partOfName(r rune) bool {
	return r != utf8.RuneError && r != ':' && r != '"' && r != '\'' && r != ';' && r != ',' && !unicode.IsSpace(r)
}
