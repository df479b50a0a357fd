package native

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"unicode/utf8"

	"transferd/internal/tree"
	"transferd/protocol"
)

// A wireError is an error with the code that it has on the wire: one that this
// end has found itself, or what a FAIL of the other end says.
type wireError struct {
	code    protocol.Code
	message string
}

// refuse returns an error that is told with code.
func refuse(code protocol.Code, format string, args ...any) error {
	return &wireError{code: code, message: fmt.Sprintf(format, args...)}
}

func (e *wireError) Error() string {
	if e.message != "" {
		return e.message
	}
	if is := sentinelsOf(e.code); len(is) > 0 {
		return is[0].Error()
	}
	return e.code.String()
}

// Unwrap returns the sentinels that the code stands for.
func (e *wireError) Unwrap() []error { return sentinelsOf(e.code) }

// A meaning is a code and the sentinel that it stands for.
type meaning struct {
	is   error
	code protocol.Code
}

// meanings is the one table between errors and codes. Of several sentinels that
// an error wraps, the first here decides: those that say more come first.
func meanings() []meaning {
	return []meaning{
		{tree.ErrTakenOver, protocol.CodeTakenOver},
		{tree.ErrBusy, protocol.CodeBusy},
		{tree.ErrIntegrity, protocol.CodeIntegrity},
		{tree.ErrSourceChanged, protocol.CodeSourceChanged},
		{tree.ErrNoSpace, protocol.CodeNoSpace},
		{tree.ErrQuota, protocol.CodeQuota},
		{tree.ErrEscape, protocol.CodeEscape},
		{tree.ErrBadPath, protocol.CodeBadPath},
		{tree.ErrClosed, protocol.CodeClosed},
		{fs.ErrClosed, protocol.CodeClosed},
		{tree.ErrIsDir, protocol.CodeIsDir},
		{tree.ErrNotDir, protocol.CodeNotDir},
		{tree.ErrNotEmpty, protocol.CodeNotEmpty}, // some systems say that with the number of EEXIST
		{tree.ErrNotRegular, protocol.CodeNotRegular},
		{fs.ErrNotExist, protocol.CodeNotFound},
		{fs.ErrExist, protocol.CodeExists},
		{fs.ErrPermission, protocol.CodePermission},
		{errors.ErrUnsupported, protocol.CodeUnsupported},
		{context.Canceled, protocol.CodeCancelled},
		{context.DeadlineExceeded, protocol.CodeCancelled},
	}
}

// sentinelsOf returns what an error with code wraps, the plainest first.
func sentinelsOf(code protocol.Code) []error {
	//nolint:exhaustive // the table has the others
	switch code {
	case protocol.CodeIsDir:
		return []error{tree.ErrIsDir, tree.ErrNotRegular}
	case protocol.CodeTooLarge:
		// The other end cannot do it with something of that size: who asked does
		// it another way, as for anything that is not supported.
		return []error{errors.ErrUnsupported}
	case protocol.CodeShutdown, protocol.CodeIdle:
		return []error{tree.ErrLost}
	}
	for _, m := range meanings() {
		if m.code == code {
			return []error{m.is}
		}
	}
	return nil
}

// codeOf returns what a FAIL says of err: its code, and a message for a person
// that has no path, for who asked knows which it was, and whatever lies outside
// the session's root is not to be told. It is short enough for any message.
func codeOf(err error) (protocol.Code, string) {
	var (
		wire    *wireError
		broken  *protocol.Error
		refusal *Refusal
	)
	switch {
	case errors.As(err, &wire):
		return wire.code, shorten(wire.Error())
	case errors.As(err, &broken):
		return broken.Code, shorten(broken.Error())
	case errors.As(err, &refusal):
		return refusal.Code, shorten(refusal.Message)
	}
	text := shorten(reason(err).Error())
	for _, m := range meanings() {
		if errors.Is(err, m.is) {
			return m.code, text
		}
	}
	return protocol.CodeFailure, text
}

// reason strips err of the operations and paths that were put around it. What is
// wrapped around a path by others goes too: it may name the path again.
func reason(err error) error {
	for {
		var (
			path *fs.PathError
			link *os.LinkError
			call *os.SyscallError
		)
		switch {
		case errors.As(err, &path):
			err = path.Err
		case errors.As(err, &link):
			err = link.Err
		case errors.As(err, &call):
			err = call.Err
		default:
			return err
		}
		if err == nil {
			return errors.New("unknown error")
		}
	}
}

// shorten cuts text to what a message may have, between two characters.
func shorten(text string) string {
	if len(text) <= protocol.MaxMessage {
		return text
	}
	const dots = "…"
	cut := protocol.MaxMessage - len(dots)
	for back := cut; back > cut-utf8.UTFMax; back-- {
		if utf8.RuneStart(text[back]) {
			cut = back
			break
		}
	}
	return text[:cut] + dots
}

// errorOf makes an error of a FAIL: op could not be done to path. It wraps the
// sentinels that the code stands for. The message is as the other end sent it:
// it may have control characters.
func errorOf(code protocol.Code, message, op, path string) error {
	return &fs.PathError{Op: op, Path: path, Err: &wireError{code: code, message: message}}
}

// isCode reports whether err has code, as refuse and errorOf give it.
func isCode(err error, code protocol.Code) bool {
	var wire *wireError
	return errors.As(err, &wire) && wire.code == code
}

// failOf is the FAIL that tells of err.
func failOf(err error) *protocol.Fail {
	code, message := codeOf(err)
	return &protocol.Fail{Code: code, Message: message}
}
