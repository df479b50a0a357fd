//go:build linux

package interop

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"transferd/internal/testpeer"
)

const (
	diskSize   = "size=24m"
	roomySize  = "size=200m"
	tooBigSize = 40 << 20
)

// smallDisk mounts a file system of 24 MiB and returns where.
func smallDisk(t *testing.T) string {
	t.Helper()
	needRoot(t, "mount a small disk")
	dir := filepath.Join(t.TempDir(), "small-disk")
	check(t, os.Mkdir(dir, 0o755))
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, diskSize); err != nil {
		leaveOut(t, "mount a small disk", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

// leaveOut ends a test that this system has no rights for, containers without
// CAP_SYS_ADMIN for example.
func leaveOut(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES) || os.Getenv(testpeer.RequireEnv) == "1" {
		t.Fatalf("%s: %v", what, err)
	}
	t.Skipf("the system does not let this %s: %v", what, err)
}

func enlarge(t *testing.T, disk string) {
	t.Helper()
	check(t, unix.Mount("tmpfs", disk, "tmpfs", unix.MS_REMOUNT, roomySize))
}

// A fullDisk is a copy of a directory to a disk that cannot hold one of its files.
type fullDisk struct {
	c    client
	src  string // as the command line has it
	dst  string // as the command line has it
	from string // src on this machine: a directory of three files, "big" is too large
	disk string // where dst is in truth
	to   string // dst on this machine
	says string // part of the message that names the place
}

// run copies onto the full disk, looks at what is there, makes room and copies again.
func (f fullDisk) run(t *testing.T) {
	t.Helper()
	o := wantOutcome(t, f.c.command(t.Context(), "copy", "-r", "--retries", "0", f.src, f.dst), 1, "no space left", f.says, "hint: ")
	if t.Failed() {
		return
	}
	// The small ones went beside the big one: each is whole or not there.
	for _, name := range []string{"first", "second"} {
		if _, err := os.Lstat(filepath.Join(f.to, name)); !os.IsNotExist(err) {
			sameFile(t, filepath.Join(f.to, name), filepath.Join(f.from, name))
		}
	}
	if _, err := os.Lstat(filepath.Join(f.to, "big")); !os.IsNotExist(err) {
		t.Errorf("a file that did not fit has its final name: %v\n%s", err, o.stderr)
	}
	parts, err := filepath.Glob(filepath.Join(f.to, ".transfer-*.part"))
	check(t, err)
	if len(parts) == 0 {
		t.Errorf("no partial was kept")
	}
	enlarge(t, f.disk)
	r := f.c.copy(t, "-r", f.src, f.dst)
	t.Logf("with room: %+v", r)
	for _, name := range []string{"first", "second", "big"} {
		sameFile(t, filepath.Join(f.to, name), filepath.Join(f.from, name))
	}
	if r.BytesResumed == 0 {
		t.Errorf("nothing was resumed: %+v", r)
	}
	left, err := filepath.Glob(filepath.Join(f.to, ".transfer-*"))
	check(t, err)
	if len(left) > 0 {
		t.Errorf("left over: %q", left)
	}
}

// threeFiles makes the directory that is copied.
func threeFiles(t *testing.T, dir string) string {
	t.Helper()
	src := filepath.Join(dir, "src")
	check(t, os.Mkdir(src, 0o755))
	writeRandom(t, filepath.Join(src, "first"), 100_000)
	writeRandom(t, filepath.Join(src, "big"), tooBigSize)
	writeRandom(t, filepath.Join(src, "second"), 200_000)
	return src
}

func TestUploadToAFullDisk(t *testing.T) {
	disk := smallDisk(t)
	d := startOn(t, disk)
	c := newClient(t, d.Login)
	from := threeFiles(t, t.TempDir())
	fullDisk{c: c, src: from, dst: c.remote("/copy"), from: from, to: filepath.Join(disk, "copy"), disk: disk, says: d.Host}.run(t)
	d.Kill() // before the disk goes away
}

func TestUploadToAFullDiskOfStockSSHD(t *testing.T) {
	disk := smallDisk(t)
	s := testpeer.StartSSHD(t, testpeer.SSHDOptions{})
	c := newClient(t, s.Login)
	from, to := threeFiles(t, t.TempDir()), filepath.Join(disk, "copy")
	fullDisk{c: c, src: from, dst: c.remote(to), from: from, to: to, disk: disk, says: s.Host}.run(t)
	s.Kill()
}

func TestDownloadToAFullDisk(t *testing.T) {
	disk := smallDisk(t)
	d := startConfigured(t, []daemonUser{{name: "alice"}}, "")
	from, to := threeFiles(t, d.Root), filepath.Join(disk, "copy")
	c := newClient(t, d.Login)
	fullDisk{c: c, src: c.remote("/src"), dst: to, from: from, to: to, disk: disk, says: disk}.run(t)
}

func TestLocalCopyToAFullDisk(t *testing.T) {
	disk := smallDisk(t)
	from, to := threeFiles(t, t.TempDir()), filepath.Join(disk, "copy")
	c := localClient(t)
	fullDisk{c: c, src: from, dst: to, from: from, to: to, disk: disk, says: disk}.run(t)
}

func TestReadOnlyDisk(t *testing.T) {
	disk := smallDisk(t)
	writeRandom(t, filepath.Join(disk, "there"), 1000)
	check(t, unix.Mount("tmpfs", disk, "tmpfs", unix.MS_REMOUNT|unix.MS_RDONLY, diskSize))
	src := filepath.Join(t.TempDir(), "src")
	writeRandom(t, src, 5000)
	d := startOn(t, disk)
	s := testpeer.StartSSHD(t, testpeer.SSHDOptions{})
	toDaemon, toSSHD, here := newClient(t, d.Login), newClient(t, s.Login), localClient(t)
	for name, test := range map[string]struct {
		c    client
		verb string
		args []string
		says string
	}{
		"upload":             {toDaemon, "copy", []string{src, toDaemon.remote("/new")}, "read-only"},
		"upload over":        {toDaemon, "copy", []string{src, toDaemon.remote("/there")}, "read-only"},
		"mkdir":              {toDaemon, "mkdir", []string{toDaemon.remote("/dir")}, "read-only"},
		"rm":                 {toDaemon, "rm", []string{toDaemon.remote("/there")}, "read-only"},
		"local":              {here, "copy", []string{src, disk + "/new"}, "read-only"},
		"download":           {toDaemon, "copy", []string{toDaemon.remote("/there"), disk + "/new"}, "read-only"},
		"upload, stock sshd": {toSSHD, "copy", []string{src, toSSHD.remote(disk + "/new")}, "read-only"},
	} {
		t.Run(name, func(t *testing.T) {
			o := ends(t, test.c.command(t.Context(), test.verb, test.args...))
			if o.code != 5 && o.code != 1 {
				t.Errorf("exit %d, want 5 or 1", o.code)
			}
			if !strings.Contains(o.stderr, test.says) || !strings.Contains(o.stderr, "hint: ") {
				t.Errorf("stderr does not say %q, or has no hint:\n%s", test.says, o.stderr)
			}
		})
	}
	d.Kill()
	s.Kill()
}
