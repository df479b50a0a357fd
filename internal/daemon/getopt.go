package daemon

import (
	"errors"
	"fmt"
	"strings"
)

// A letter is one option of a command line that getopt has read.
type letter struct {
	name  byte
	value string
}

// errLetter is a letter that the program does not have, or one without its
// value.
var errLetter = errors.New("wrong option")

// getopt reads args as getopt(3) does with spec, where a letter that takes a
// value has a colon behind it: "-eR", "-d/tmp" and "-d /tmp" are all the same
// to it, and "--" ends the options. What is not an option is skipped, as the
// GNU library does. Reading stops behind a letter for which stop is true.
func getopt(args []string, spec string, stop func(byte) bool) ([]letter, error) {
	var letters []letter
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		if arg == "--" {
			break
		}
		if len(arg) < 2 || arg[0] != '-' {
			continue
		}
		for group := arg[1:]; group != ""; {
			one := letter{name: group[0]}
			group = group[1:]
			at := strings.IndexByte(spec, one.name)
			if at < 0 || one.name == ':' {
				return letters, fmt.Errorf("%w: -%c is unknown", errLetter, one.name)
			}
			if strings.HasPrefix(spec[at+1:], ":") {
				switch {
				case group != "":
					one.value, group = group, ""
				case len(args) > 0:
					one.value, args = args[0], args[1:]
				default:
					return letters, fmt.Errorf("%w: -%c needs a value", errLetter, one.name)
				}
			}
			letters = append(letters, one)
			if stop(one.name) {
				return letters, nil
			}
		}
	}
	return letters, nil
}
