package main

import (
	"errors"
	"os/exec"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"transferd/internal/testpeer"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"transferd": main})
}

// TestScripts runs the programs as they are typed; each file of testdata is one
// story. A story always says --config and --state-dir: what root gets without
// them belongs to the machine.
func TestScripts(t *testing.T) {
	keygen, sftp := testpeer.Need(t, "ssh-keygen"), testpeer.Need(t, "sftp")
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir+"/home")
			env.Setenv("SFTP", sftp)
			// Every story has a key and its authorized_keys file.
			return exec.Command(keygen, "-q", "-t", "ed25519", "-N", "", "-f", env.WorkDir+"/id").Run()
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
	})
}

// exits runs a program and wants an exit code: exits 2 transferd --bogus
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM [ARG...]")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	if err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%s: %v", args[1], err)
		}
		code = exit.ExitCode()
	}
	if got := strconv.Itoa(code); got != args[0] {
		ts.Fatalf("%v exits %s, want %s", args[1:], got, args[0])
	}
}
