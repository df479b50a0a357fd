package transport

import (
	"context"
	"errors"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// errNobody says that a question could not be put to anybody.
var errNobody = errors.New("nobody to ask: no terminal, or BatchMode")

// An asker asks the person, one question at a time, and keeps the clock of the
// handshake from running meanwhile. One asker serves one handshake.
type asker struct {
	prompt Prompter    // nil: nobody
	turn   *sync.Mutex // shared by all that ask the same person
	clock  *guard      // nil: none
}

func (a *asker) ask(question func() error) error {
	if a.prompt == nil {
		return errNobody
	}
	if a.clock != nil {
		a.clock.pause()
		defer a.clock.resume()
	}
	a.turn.Lock()
	defer a.turn.Unlock()
	return question()
}

// passphrase is an auth.AskFunc.
func (a *asker) passphrase(ctx context.Context, prompt string) (secret []byte, err error) {
	err = a.ask(func() error {
		secret, err = a.prompt.Passphrase(ctx, escape(prompt))
		return err
	})
	return secret, err
}

// confirm is an auth.ConfirmFunc.
func (a *asker) confirm(ctx context.Context, question string) (answer string, err error) {
	err = a.ask(func() error {
		answer, err = a.prompt.Confirm(ctx, escape(question))
		return err
	})
	return answer, err
}

// answer asks for a password or what else a server wants to know.
func (a *asker) answer(ctx context.Context, prompt string, echo bool) (answer string, err error) {
	err = a.ask(func() error {
		answer, err = a.prompt.Answer(ctx, escape(prompt), echo)
		return err
	})
	return answer, err
}

// maxBanner bounds what a server may print on a person's terminal.
const maxBanner = 32 << 10

// escape makes text from a server harmless for a terminal: whatever is not
// printable, but for newlines and tabs, is shown as its bytes in octal, as
// ssh shows it.
func escape(text string) string {
	if len(text) > maxBanner {
		text = text[:maxBanner]
	}
	var b strings.Builder
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		switch {
		case r == '\n' || r == '\t' || unicode.IsPrint(r) && (r != utf8.RuneError || size > 1):
			b.WriteString(text[i : i+size])
		case r == '\r' && strings.HasPrefix(text[i+1:], "\n"):
			// the line end of a server that is fond of it
		default:
			for _, c := range []byte(text[i : i+size]) {
				b.Write([]byte{'\\', '0' + c>>6, '0' + c>>3&7, '0' + c&7})
			}
		}
		i += size
	}
	return b.String()
}
