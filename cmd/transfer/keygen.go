package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"transferd/auth"
)

const keygenUsage = `usage: transfer keygen [-q] [-a rounds] [-b bits] [-C comment] [-f output_keyfile]
                       [-N new_passphrase] [-t ecdsa | ed25519 | rsa]
       transfer keygen -p [-a rounds] [-f keyfile] [-N new_passphrase]
                       [-P old_passphrase]
       transfer keygen -y [-f input_keyfile] [-P passphrase]
       transfer keygen -l [-E md5 | sha256] [-f input_keyfile]
`

const keygenLong = `keygen makes and looks after keys for SSH. Its letters are those of ssh-keygen,
which can use every file it writes, and the other way round.

  -t TYPE        ed25519 (the default), ecdsa or rsa
  -b BITS        of ecdsa 256, 384 or 521; of rsa 1024 to 8192 (3072)
  -f FILE        the private key (~/.ssh/id_TYPE); FILE.pub is the public one
  -C COMMENT     what the public key says it is (user@host)
  -N PASSPHRASE  of the new key, "" for none; asked for if not given
  -a ROUNDS      how hard the passphrase is to guess (24)
  -q             say nothing but errors
  -p             change the passphrase of FILE; -P is the old one, -N the new
  -y             print the public key of the private one in FILE
  -l             print the fingerprints of what is in FILE: a key, authorized_keys,
                 known_hosts; - is stdin. -E md5 prints them as old programs do
  --help         this text; -h means something else to ssh-keygen

It exits as ssh-keygen does: 0 done, 1 wrong usage or refused, 255 failed.

`

// newKeygenCommand returns the command keygen. cobra does not parse its flags:
// the letters of ssh-keygen mean other things, -h among them.
func newKeygenCommand(env *environ) *cobra.Command {
	return &cobra.Command{
		Use:                "keygen [ssh-keygen's letters]",
		Short:              "Make and look after SSH keys, with ssh-keygen's letters",
		Long:               keygenLong + keygenUsage,
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runKeygen(cmd.Context(), env, args)
		},
	}
}

// The exit codes of ssh-keygen.
const (
	keygenRefused = 1
	keygenFailed  = 255
)

// A keygenError is a failure in the words and with the exit code of ssh-keygen.
type keygenError struct {
	code int
	text string
}

func (e *keygenError) Error() string { return e.text }
func (e *keygenError) exitCode() int { return e.code }

func keygenf(code int, format string, args ...any) error {
	return &keygenError{code: code, text: fmt.Sprintf(format, args...)}
}

// A keygen is one run of the command.
type keygen struct {
	env   *environ
	stdin *bufio.Reader

	kind       string
	bits       int
	file       string // as typed; "" asks
	comment    *string
	passphrase *string // -N
	old        *string // -P
	rounds     int
	hash       string
	quiet      bool

	public, list, change, help bool
}

func runKeygen(ctx context.Context, env *environ, args []string) error {
	k := &keygen{env: env, stdin: bufio.NewReader(env.stdin), kind: "ed25519", hash: "sha256"}
	err := k.parse(args)
	if err == nil {
		err = k.run(ctx)
	}
	if e := new(keygenError); errors.As(err, &e) {
		// ssh-keygen's words stand for themselves, without our name before them.
		if e.text != "" {
			_, _ = fmt.Fprintln(env.stderr, escapeLines(e.text)) // nowhere to report that
		}
		return toldError{err}
	}
	return err
}

func (k *keygen) run(ctx context.Context) error {
	switch {
	case k.help:
		return k.say("%s%s", keygenLong, keygenUsage)
	case k.list:
		return k.showFingerprints()
	case k.change:
		return k.changePassphrase(ctx)
	case k.public:
		return k.showPublic(ctx)
	}
	return k.generate(ctx)
}

// keygenLetters are the options, those with a value followed by a colon, as for
// getopt(3).
const keygenLetters = "a:b:C:E:f:lN:P:pqt:y"

// parse reads the command line as ssh-keygen's getopt does: letters can be
// bundled, a value can stick to its letter, the first operand ends the options.
func (k *keygen) parse(args []string) error {
	for len(args) > 0 {
		arg := args[0]
		if arg == "--help" {
			k.help = true
			return nil
		}
		if arg == "--" {
			args = args[1:]
			break
		}
		if len(arg) < 2 || arg[0] != '-' {
			break
		}
		args = args[1:]
		for rest := arg[1:]; rest != ""; {
			letter := rest[0]
			rest = rest[1:]
			i := strings.IndexByte(keygenLetters, letter)
			if i < 0 || letter == ':' {
				return k.usage("unknown option -- %c", letter)
			}
			if i+1 == len(keygenLetters) || keygenLetters[i+1] != ':' {
				k.flag(letter)
				continue
			}
			value := rest
			if value == "" {
				if len(args) == 0 {
					return k.usage("option requires an argument -- %c", letter)
				}
				value, args = args[0], args[1:]
			}
			if err := k.value(letter, value); err != nil {
				return err
			}
			break
		}
	}
	if len(args) > 0 {
		return k.usage("Too many arguments.")
	}
	return nil
}

func (k *keygen) usage(format string, args ...any) error {
	return keygenf(keygenRefused, "%s\n%s", fmt.Sprintf(format, args...), strings.TrimSuffix(keygenUsage, "\n"))
}

func (k *keygen) flag(letter byte) {
	switch letter {
	case 'l':
		k.list = true
	case 'p':
		k.change = true
	case 'q':
		k.quiet = true
	case 'y':
		k.public = true
	}
}

func (k *keygen) value(letter byte, value string) (err error) {
	switch letter {
	case 'a':
		if k.rounds, err = strconv.Atoi(value); err != nil || k.rounds < 1 {
			return keygenf(keygenFailed, "Invalid number: %s", value)
		}
	case 'b':
		if k.bits, err = strconv.Atoi(value); err != nil || k.bits < 1 {
			return keygenf(keygenFailed, "Bits has bad value %s", value)
		}
	case 'C':
		k.comment = &value
	case 'E':
		if k.hash = strings.ToLower(value); k.hash != "md5" && k.hash != "sha256" {
			return keygenf(keygenFailed, "Invalid hash algorithm %q", value)
		}
	case 'f':
		k.file = value
	case 'N':
		k.passphrase = &value
	case 'P':
		k.old = &value
	case 't':
		k.kind = strings.ToLower(value)
		if k.kind != "ed25519" && k.kind != "ecdsa" && k.kind != "rsa" {
			return keygenf(keygenFailed, "unknown key type %s", value)
		}
	}
	return nil
}

// say writes for the person who called; unless -q, which only results ignore.
func (k *keygen) say(format string, args ...any) error {
	if _, err := fmt.Fprintf(k.env.stdout, format, args...); err != nil {
		return fmt.Errorf("write to stdout: %w", err)
	}
	return nil
}

// fileName returns the key file of -f, or asks for it.
func (k *keygen) fileName(question string) (string, error) {
	if k.file != "" {
		return k.file, nil
	}
	home := k.env.home()
	if home == "" {
		return "", keygenf(keygenFailed, "There is no home directory to keep keys in; name a file with -f")
	}
	file := home + string(os.PathSeparator) + ".ssh" + string(os.PathSeparator) + "id_" + k.kind
	if err := k.say("%s (%s): ", question, file); err != nil {
		return "", err
	}
	// No answer at all is one: a script that names no file means the usual one.
	answer, err := k.line()
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	if answer != "" {
		file = answer
	}
	k.file = file
	return file, nil
}

// line reads a line from stdin. It is io.EOF if there is none.
func (k *keygen) line() (string, error) {
	text, err := k.stdin.ReadString('\n')
	if err != nil && text == "" {
		if errors.Is(err, io.EOF) {
			return "", io.EOF
		}
		return "", fmt.Errorf("read stdin: %w", err)
	}
	return strings.TrimRight(text, "\r\n"), nil
}

// secret asks for a passphrase: on the terminal or, where there is none, on
// stdin.
func (k *keygen) secret(ctx context.Context, prompt string) ([]byte, error) {
	answer, err := k.env.prompts.Secret(ctx, prompt)
	if !errors.Is(err, errNoTerminal) {
		return answer, err
	}
	text, err := k.line()
	if errors.Is(err, io.EOF) {
		return nil, keygenf(keygenRefused, "There is no terminal to ask for the passphrase on; give it with -N (new) or -P (old)")
	}
	return []byte(text), err
}

// newPassphrase returns the passphrase of -N, or asks for it twice.
func (k *keygen) newPassphrase(ctx context.Context, prompt string) ([]byte, error) {
	if k.passphrase != nil {
		return []byte(*k.passphrase), nil
	}
	for {
		first, err := k.secret(ctx, prompt)
		if err != nil {
			return nil, err
		}
		second, err := k.secret(ctx, "Enter same passphrase again: ")
		if err != nil {
			return nil, err
		}
		if string(first) == string(second) {
			return first, nil
		}
		if err := k.say("Passphrases do not match.  Try again.\n"); err != nil {
			return nil, err
		}
	}
}

// load reads the private key in file, and asks for its passphrase if it has
// one and -P does not say it.
func (k *keygen) load(ctx context.Context, file, prompt string) (*auth.PrivateKey, error) {
	data, err := auth.ReadPrivateKeyFile(k.env.path(file))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, keygenf(keygenFailed, "%s: No such file or directory", file)
	}
	if err != nil {
		return nil, keygenf(keygenFailed, "Load key %q: %v", file, err)
	}
	key, err := auth.ParsePrivateKey(data, nil)
	if errors.Is(err, auth.ErrPassphrase) {
		var passphrase []byte
		if k.old != nil {
			passphrase = []byte(*k.old)
		} else if passphrase, err = k.secret(ctx, prompt); err != nil {
			return nil, err
		}
		key, err = auth.ParsePrivateKey(data, passphrase)
		clear(passphrase)
	}
	if errors.Is(err, auth.ErrPassphrase) {
		return nil, keygenf(keygenFailed, "Load key %q: incorrect passphrase supplied to decrypt private key", file)
	}
	if err != nil {
		return nil, keygenf(keygenFailed, "Load key %q: %v", file, err)
	}
	return key, nil
}

// escapeLines is escape, but lines stay lines.
func escapeLines(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = escape(line)
	}
	return strings.Join(lines, "\n")
}
