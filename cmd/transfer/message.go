package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"transferd/config"
	"transferd/internal/transfer"
	"transferd/internal/transport"
	"transferd/internal/tree"
)

// How transfer talks to people, all of it on stderr:
//   - an error is one line, "transfer: <what>: <why>", and where there is a
//     next step to take, a second one, "hint: <step>";
//   - nothing from elsewhere reaches the terminal as it is: see escape;
//   - an error is told once. What was told while a command ran comes back
//     inside a toldError, which only its exit code is taken of.

// A toldError has been reported already.
type toldError struct{ err error }

func (e toldError) Error() string { return e.err.Error() }
func (e toldError) Unwrap() error { return e.err }

// report tells the person what a command returned. Errors that were joined, and
// faults of the configuration, are told one after another.
func report(w io.Writer, err error) {
	if err == nil || errors.As(err, new(toldError)) {
		return
	}
	if faults := config.Faults(nil); errors.As(err, &faults) {
		for _, fault := range faults {
			tell(w, fault.String(), "")
		}
		return
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok && isJoin(err) {
		for _, e := range joined.Unwrap() {
			report(w, e)
		}
		return
	}
	tell(w, err.Error(), hintFor(err))
}

// isJoin reports whether err is what errors.Join makes: many errors and no
// text of its own.
func isJoin(err error) bool {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return false
	}
	var texts []string
	for _, e := range joined.Unwrap() {
		texts = append(texts, e.Error())
	}
	return len(texts) > 0 && err.Error() == strings.Join(texts, "\n")
}

// tell writes one message and its hint. There is nowhere to report that this
// did not work.
func tell(w io.Writer, text, hint string) {
	message := "transfer: " + escape(text) + "\n"
	if hint != "" {
		message += "hint: " + escape(hint) + "\n"
	}
	_, _ = io.WriteString(w, message)
}

// describe returns the message of a file's failure, which names the file.
func describe(path string, err error) string {
	text := err.Error()
	if path == "" || mentions(text, strings.TrimRight(path, "/")) {
		return text
	}
	return fmt.Sprintf("%s: %s", path, text)
}

// hintTable says what to do about errors that do not say so themselves; the
// first line that errors.Is is it.
func hintTable() []hintLine {
	return []hintLine{
		{tree.ErrSourceChanged, "run the same command again to copy it as it is now"},
		{tree.ErrIntegrity, "run the same command again: what does not match is copied anew; if it stays so, suspect a disk or memory"},
		{tree.ErrLost, "run the same command again: it goes on where this one stopped"},
		{tree.ErrTakenOver, "let the other run finish, or end it and run this one again"},
		{tree.ErrBusy, "wait for the other copy, or end it, and run this one again"},
		{tree.ErrNoSpace, "free some space there and run the same command again: what arrived is kept"},
		{tree.ErrQuota, "make room in the quota there and run the same command again: what arrived is kept"},
		{tree.ErrNotRegular, "only regular files, directories and symlinks are copied"},
		{tree.ErrNotEmpty, "rm -r removes a directory with what is in it"},
		{tree.ErrIsDir, "rm -r removes a directory"},
		{tree.ErrNotDir, "name a directory there, or make one with 'transfer mkdir'"},
		{fs.ErrNotExist, "check the name; 'transfer ls' on the directory above shows what is there"},
		{fs.ErrPermission, "the account that is used there may not do that: look at its permissions, or ask whoever runs that machine"},
	}
}

// A hintedError is an error whose next step only its command knows.
type hintedError struct {
	err  error
	hint string
}

func (e *hintedError) Error() string { return e.err.Error() }
func (e *hintedError) Unwrap() error { return e.err }

// hinted gives err the hint if it is of a kind.
func hinted(err, kind error, hint string) error {
	if !errors.Is(err, kind) {
		return err
	}
	return &hintedError{err, hint}
}

type hintLine struct {
	err  error
	hint string
}

// hintFor returns the next step after err, "" where none is known.
func hintFor(err error) string {
	if u := new(transfer.UsageError); errors.As(err, &u) {
		return u.Hint
	}
	if u := new(usageError); errors.As(err, &u) {
		return u.hint
	}
	if h := new(hintedError); errors.As(err, &h) {
		return h.hint
	}
	var hinter transport.Hinter
	if errors.As(err, &hinter) {
		return hinter.Hint()
	}
	if errors.As(err, new(interruptError)) {
		return ""
	}
	for _, line := range hintTable() {
		if errors.Is(err, line.err) {
			return line.hint
		}
	}
	return ""
}
