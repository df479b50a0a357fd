package transport

import (
	"errors"
	"fmt"
)

// Errors that callers branch on. A login that was refused or a host key that
// is not the right one wraps auth.ErrAuth or auth.ErrHostKey.
var (
	// ErrUsage: a target, option or setting is wrong; nothing was dialled.
	ErrUsage = errors.New("wrong usage")

	// ErrConnect: no connection could be made.
	ErrConnect = errors.New("cannot connect")
)

// A Hinter is an error that knows what its reader can do next. The hint is not
// part of Error, so that whoever prints decides where it goes.
type Hinter interface {
	error
	Hint() string
}

// problem is an error of a kind, with a text for people and what to do next.
type problem struct {
	kind  error // what errors.Is finds beside cause
	text  string
	hint  string
	cause error // nil: there is none
}

func (p *problem) Error() string {
	if p.cause == nil {
		return p.text
	}
	return p.text + ": " + p.cause.Error()
}

// Hint implements Hinter.
func (p *problem) Hint() string { return p.hint }

func (p *problem) Unwrap() []error {
	if p.cause == nil {
		return []error{p.kind}
	}
	return []error{p.kind, p.cause}
}

// usage makes an error of wrong usage; the text names the thing and the fix.
func usage(format string, args ...any) error {
	return &problem{kind: ErrUsage, text: fmt.Sprintf(format, args...)}
}
