// Package auth says who is who: the keys and certificates that people and
// hosts prove themselves with, who may log in (authorized_keys) and which hosts
// are trusted (known_hosts), in the files of OpenSSH and with its rules. It
// opens no connection but to ssh-agent, reads no clock but one it is given,
// and asks people only through functions it is given.
package auth

import (
	"context"
	"errors"
)

// Errors that callers branch on.
var (
	// ErrHostKey: the server is not the one that known_hosts says it is, or
	// nobody vouches for it.
	ErrHostKey = errors.New("host key verification failed")

	// ErrAuth: the login is refused. What the error says beside it is for a
	// log, never for the peer.
	ErrAuth = errors.New("authentication failed")

	// ErrPassphrase: a key is locked and its passphrase is wrong or not known.
	ErrPassphrase = errors.New("passphrase is wrong or missing")
)

// An AskFunc shows prompt and returns the secret that was typed. An empty
// secret means that the person does not want to tell.
type AskFunc func(ctx context.Context, prompt string) ([]byte, error)

// A ConfirmFunc shows question and returns the line that was typed.
type ConfirmFunc func(ctx context.Context, question string) (string, error)
