//go:build unix

package interop

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"transferd/internal/testpeer"
)

// A foreign client drives one program through what its users do with it.
// Remote paths are absolute on the server.
type foreign interface {
	put(t *testing.T, local, remote string)    // a file
	get(t *testing.T, remote, local string)    // a file
	putDir(t *testing.T, local, remote string) // local's files become remote's
	list(t *testing.T, remote string) []string // names in a directory
	rename(t *testing.T, from, to string)
	remove(t *testing.T, remote string) // a file
}

// A resumer can continue a broken-off transfer.
type resumer interface {
	reput(t *testing.T, local, remote string)
	reget(t *testing.T, remote, local string)
}

const (
	manyFiles = 100
	bigSize   = 64 << 20
)

func TestForeignClients(t *testing.T) {
	for name, start := range map[string]func(t *testing.T, d *daemon) foreign{
		"sftp": startSFTP, "scp": startSCP, "rclone": startRclone, "lftp": startLFTP,
		"psftp": startPSFTP, "curl": startCurl, "paramiko": startParamiko, "sshfs": startSSHFS,
	} {
		t.Run(name, func(t *testing.T) {
			d := startDaemon(t)
			roundTrip(t, d, start(t, d))
		})
	}
}

// roundTrip is what every client must be able to do.
func roundTrip(t *testing.T, d *daemon, c foreign) {
	t.Helper()
	local := t.TempDir()
	many := filepath.Join(local, "many")
	if err := os.Mkdir(many, 0o755); err != nil {
		t.Fatal(err)
	}
	var names []string
	for i := range manyFiles {
		name := fmt.Sprintf("file %03d.dat", i)
		names = append(names, name)
		writeRandom(t, filepath.Join(many, name), int64(i)*37)
	}
	big := filepath.Join(local, "big")
	writeRandom(t, big, bigSize)

	c.put(t, big, "/big")
	sameFile(t, filepath.Join(d.Root, "big"), big)
	c.get(t, "/big", filepath.Join(local, "big.back"))
	sameFile(t, filepath.Join(local, "big.back"), big)

	c.putDir(t, many, "/many")
	for _, name := range names {
		sameFile(t, filepath.Join(d.Root, "many", name), filepath.Join(many, name))
	}
	got := c.list(t, "/many")
	sort.Strings(got)
	if strings.Join(got, "\n") != strings.Join(names, "\n") {
		t.Errorf("listed %d names %q, want %d", len(got), got, len(names))
	}
	c.get(t, "/many/"+names[7], filepath.Join(local, "one.back"))
	sameFile(t, filepath.Join(local, "one.back"), filepath.Join(many, names[7]))

	c.rename(t, "/many/"+names[3], "/many/renamed")
	sameFile(t, filepath.Join(d.Root, "many", "renamed"), filepath.Join(many, names[3]))
	c.remove(t, "/many/renamed")
	if _, err := os.Lstat(filepath.Join(d.Root, "many", "renamed")); !os.IsNotExist(err) {
		t.Errorf("removed file is there: %v", err)
	}
	if r, ok := c.(resumer); ok {
		resumes(t, d, r, local, big)
	}
}

// resumes continues an upload and a download from a third of the file.
func resumes(t *testing.T, d *daemon, r resumer, local, big string) {
	t.Helper()
	truncated := func(path string) {
		data, err := os.ReadFile(big)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data[:len(data)/3], 0o644); err != nil {
			t.Fatal(err)
		}
	}
	truncated(filepath.Join(d.Root, "again"))
	r.reput(t, big, "/again")
	sameFile(t, filepath.Join(d.Root, "again"), big)
	truncated(filepath.Join(local, "again.back"))
	r.reget(t, "/big", filepath.Join(local, "again.back"))
	sameFile(t, filepath.Join(local, "again.back"), big)
}

// shell is a client whose commands are fed as a script.
type script struct {
	run func(t *testing.T, lines ...string) string
}

func quote(s string) string { return `"` + s + `"` }

func (s script) put(t *testing.T, local, remote string) {
	t.Helper()
	s.run(t, "put "+quote(local)+" "+quote(remote))
}

func (s script) get(t *testing.T, remote, local string) {
	t.Helper()
	s.run(t, "get "+quote(remote)+" "+quote(local))
}

func (s script) rename(t *testing.T, from, to string) {
	t.Helper()
	s.run(t, "rename "+quote(from)+" "+quote(to))
}

func (s script) remove(t *testing.T, remote string) {
	t.Helper()
	s.run(t, "rm "+quote(remote))
}

func (s script) reput(t *testing.T, local, remote string) {
	t.Helper()
	s.run(t, "reput "+quote(local)+" "+quote(remote))
}

func (s script) reget(t *testing.T, remote, local string) {
	t.Helper()
	s.run(t, "reget "+quote(remote)+" "+quote(local))
}

// sftpClient is OpenSSH's sftp.
type sftpClient struct{ script }

func startSFTP(t *testing.T, d *daemon) foreign {
	t.Helper()
	program := testpeer.Need(t, "sftp")
	return sftpClient{script{func(t *testing.T, lines ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), program, append(d.Options(), "-b", "-", d.Target())...)
		cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
		return run(t, cmd)
	}}}
}

func (c sftpClient) putDir(t *testing.T, local, remote string) {
	t.Helper()
	c.run(t, "mkdir "+quote(remote), "put "+quote(local)+"/* "+quote(remote))
}

func (c sftpClient) list(t *testing.T, remote string) []string {
	t.Helper()
	return listed(c.run(t, "ls -1 "+quote(remote)), remote)
}

// listed takes the names of remote out of a client's output.
func listed(out, remote string) []string {
	var names []string
	for line := range strings.Lines(out) {
		line = strings.TrimRight(line, "\r\n")
		if strings.HasPrefix(line, "sftp>") || line == "" {
			continue
		}
		line = strings.TrimPrefix(line, remote+"/")
		if line != "." && line != ".." {
			names = append(names, line)
		}
	}
	return names
}

// scpClient is OpenSSH's scp, which speaks SFTP; what it cannot do sftp does.
type scpClient struct {
	sftpClient
	d       *daemon
	program string
}

func startSCP(t *testing.T, d *daemon) foreign {
	t.Helper()
	sftp, ok := startSFTP(t, d).(sftpClient)
	if !ok {
		t.Fatal("not an sftpClient")
	}
	return scpClient{sftpClient: sftp, d: d, program: testpeer.Need(t, "scp")}
}

func (c scpClient) scp(t *testing.T, args ...string) {
	t.Helper()
	run(t, exec.CommandContext(t.Context(), c.program, append(append(c.d.Options(), "-p", "-r"), args...)...))
}

func (c scpClient) put(t *testing.T, local, remote string) {
	t.Helper()
	c.scp(t, local, c.d.Target()+":"+remote)
}

func (c scpClient) get(t *testing.T, remote, local string) {
	t.Helper()
	c.scp(t, c.d.Target()+":"+remote, local)
}

func (c scpClient) putDir(t *testing.T, local, remote string) {
	t.Helper()
	c.scp(t, local, c.d.Target()+":"+remote)
}

// rcloneClient is rclone's sftp backend.
type rcloneClient struct {
	d       *daemon
	program string
}

func startRclone(t *testing.T, d *daemon) foreign {
	t.Helper()
	return rcloneClient{d: d, program: testpeer.Need(t, "rclone")}
}

func (c rcloneClient) rclone(t *testing.T, args ...string) string {
	t.Helper()
	flags := []string{
		"--quiet", "--config", filepath.Join(t.TempDir(), "none.conf"), "--retries", "1",
		"--sftp-host", c.d.Host, "--sftp-port", strconv.Itoa(c.d.Port), "--sftp-user", c.d.User,
		"--sftp-key-file", c.d.Identity, "--sftp-known-hosts-file", c.d.KnownHosts, "--sftp-shell-type", "none",
	}
	return run(t, exec.CommandContext(t.Context(), c.program, append(flags, args...)...))
}

func (c rcloneClient) put(t *testing.T, local, remote string) {
	t.Helper()
	c.rclone(t, "copyto", local, ":sftp:"+remote)
}

func (c rcloneClient) get(t *testing.T, remote, local string) {
	t.Helper()
	c.rclone(t, "copyto", ":sftp:"+remote, local)
}

func (c rcloneClient) putDir(t *testing.T, local, remote string) {
	t.Helper()
	c.rclone(t, "copy", local, ":sftp:"+remote)
	// rclone's own comparison: sizes, times, and contents by downloading.
	c.rclone(t, "check", "--download", local, ":sftp:"+remote)
}

func (c rcloneClient) list(t *testing.T, remote string) []string {
	t.Helper()
	return listed(c.rclone(t, "lsf", ":sftp:"+remote), remote)
}

func (c rcloneClient) rename(t *testing.T, from, to string) {
	t.Helper()
	c.rclone(t, "moveto", ":sftp:"+from, ":sftp:"+to)
}

func (c rcloneClient) remove(t *testing.T, remote string) {
	t.Helper()
	c.rclone(t, "deletefile", ":sftp:"+remote)
}

// lftpClient is lftp, which runs ssh.
type lftpClient struct{ script }

func startLFTP(t *testing.T, d *daemon) foreign {
	t.Helper()
	program := testpeer.Need(t, "lftp")
	ssh := testpeer.Need(t, "ssh") + " -a -x"
	for _, o := range d.Options() {
		ssh += " " + o
	}
	return lftpClient{script{func(t *testing.T, lines ...string) string {
		t.Helper()
		all := append([]string{
			"set sftp:connect-program '" + ssh + "'", "set cmd:fail-exit true", "set net:max-retries 1",
			"open sftp://" + d.User + ":x@" + d.Addr(),
		}, lines...)
		cmd := exec.CommandContext(t.Context(), program, "--norc", "-c", strings.Join(all, "; "))
		cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
		return run(t, cmd)
	}}}
}

func (c lftpClient) put(t *testing.T, local, remote string) {
	t.Helper()
	c.run(t, "put "+quote(local)+" -o "+quote(remote))
}

func (c lftpClient) get(t *testing.T, remote, local string) {
	t.Helper()
	c.run(t, "get "+quote(remote)+" -o "+quote(local))
}

func (c lftpClient) putDir(t *testing.T, local, remote string) {
	t.Helper()
	c.run(t, "mirror -R -P 4 "+quote(local)+" "+quote(remote))
}

func (c lftpClient) list(t *testing.T, remote string) []string {
	t.Helper()
	return listed(c.run(t, "cls -1 "+quote(remote+"/")), remote)
}

func (c lftpClient) rename(t *testing.T, from, to string) {
	t.Helper()
	c.run(t, "mv "+quote(from)+" "+quote(to))
}

func (c lftpClient) reput(t *testing.T, local, remote string) {
	t.Helper()
	c.run(t, "put -c "+quote(local)+" -o "+quote(remote))
}

func (c lftpClient) reget(t *testing.T, remote, local string) {
	t.Helper()
	c.run(t, "get -c "+quote(remote)+" -o "+quote(local))
}

// psftpClient is PuTTY's psftp.
type psftpClient struct{ script }

func startPSFTP(t *testing.T, d *daemon) foreign {
	t.Helper()
	program := testpeer.Need(t, "psftp")
	ppk := filepath.Join(t.TempDir(), "key.ppk")
	run(t, exec.CommandContext(t.Context(), testpeer.Need(t, "puttygen"), d.Identity, "-O", "private", "-o", ppk))
	print := run(t, exec.CommandContext(t.Context(), testpeer.Need(t, "ssh-keygen"), "-l", "-f", d.hostKey(t)))
	fingerprint := strings.Fields(print)[1]
	return psftpClient{script{func(t *testing.T, lines ...string) string {
		t.Helper()
		file := filepath.Join(t.TempDir(), "script")
		if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), program, "-batch", "-P", strconv.Itoa(d.Port), "-i", ppk,
			"-hostkey", fingerprint, "-noagent", "-b", file, d.Target())
		cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
		return run(t, cmd)
	}}}
}

func (c psftpClient) rename(t *testing.T, from, to string) {
	t.Helper()
	c.run(t, "mv "+quote(from)+" "+quote(to))
}

func (c psftpClient) putDir(t *testing.T, local, remote string) {
	t.Helper()
	c.run(t, "put -r "+quote(local)+" "+quote(remote))
}

func (c psftpClient) list(t *testing.T, remote string) []string {
	t.Helper()
	var names []string
	for _, line := range listed(c.run(t, "ls "+quote(remote)), remote) {
		// mode links owner group size month day time name
		if f := strings.Fields(line); len(f) >= 9 && len(f[0]) >= 10 && f[0][0] == '-' {
			names = append(names, line[strings.Index(line, " "+f[7]+" ")+len(f[7])+2:])
		}
	}
	return names
}

// curlClient is curl over libssh2.
type curlClient struct {
	d       *daemon
	program string
}

func startCurl(t *testing.T, d *daemon) foreign {
	t.Helper()
	return curlClient{d: d, program: testpeer.Need(t, "curl")}
}

func (c curlClient) curl(t *testing.T, args ...string) string {
	t.Helper()
	flags := []string{
		"-sS", "--globoff", "--user", c.d.User + ":", "--key", c.d.Identity, "--pubkey", c.d.Identity + ".pub", "--insecure",
	}
	return run(t, exec.CommandContext(t.Context(), c.program, append(flags, args...)...))
}

func (c curlClient) url(remote string) string {
	return "sftp://" + c.d.Addr() + strings.ReplaceAll(remote, " ", "%20")
}

func (c curlClient) put(t *testing.T, local, remote string) {
	t.Helper()
	c.curl(t, "--ftp-create-dirs", "-T", local, c.url(remote))
}

func (c curlClient) get(t *testing.T, remote, local string) {
	t.Helper()
	c.curl(t, "-o", local, c.url(remote))
}

func (c curlClient) putDir(t *testing.T, local, remote string) {
	t.Helper()
	entries, err := os.ReadDir(local)
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"--ftp-create-dirs"}
	for _, e := range entries {
		args = append(args, "-T", filepath.Join(local, e.Name()), c.url(remote+"/"+e.Name()))
	}
	c.curl(t, args...)
}

func (c curlClient) list(t *testing.T, remote string) []string {
	t.Helper()
	return listed(c.curl(t, "-l", c.url(remote+"/")), remote)
}

func (c curlClient) rename(t *testing.T, from, to string) {
	t.Helper()
	c.curl(t, "-o", os.DevNull, "-Q", "rename "+quote(from)+" "+quote(to), c.url("/"))
}

func (c curlClient) remove(t *testing.T, remote string) {
	t.Helper()
	c.curl(t, "-o", os.DevNull, "-Q", "rm "+quote(remote), c.url("/"))
}

func (c curlClient) reput(t *testing.T, local, remote string) {
	t.Helper()
	c.curl(t, "-C", "-", "-T", local, c.url(remote))
}

func (c curlClient) reget(t *testing.T, remote, local string) {
	t.Helper()
	c.curl(t, "-C", "-", "-o", local, c.url(remote))
}

// mountClient is sshfs: the system's own tools on a mounted tree.
type mountClient struct{ mount string }

func startSSHFS(t *testing.T, d *daemon) foreign {
	t.Helper()
	return mountClient{mountSSHFS(t, d)}
}

// mountSSHFS mounts the daemon's tree and returns where.
func mountSSHFS(t *testing.T, d *daemon) string {
	t.Helper()
	program := testpeer.Need(t, "sshfs")
	umount := testpeer.Need(t, "fusermount3")
	mount := t.TempDir()
	args := []string{d.Target() + ":/", mount, "-f", "-o", "ssh_command=" + testpeer.Need(t, "ssh") + " " + strings.Join(d.Options(), " ")}
	cmd := exec.Command(program, args...)
	var log strings.Builder
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = exec.Command(umount, "-u", "-z", mount).Run()
		_ = cmd.Process.Kill()
		<-done
	})
	waitFor(t, "sshfs to mount", func() bool {
		select {
		case <-done:
			t.Fatalf("sshfs: %v\n%s", cmd.ProcessState, log.String())
		default:
		}
		var st unix.Statfs_t
		const fuse = 0x65735546
		return unix.Statfs(mount, &st) == nil && int64(st.Type) == fuse //nolint:unconvert // its type differs by system
	})
	return mount
}

func (c mountClient) put(t *testing.T, local, remote string) {
	t.Helper()
	run(t, exec.CommandContext(t.Context(), "cp", "-p", local, c.mount+remote))
}

func (c mountClient) get(t *testing.T, remote, local string) {
	t.Helper()
	run(t, exec.CommandContext(t.Context(), "cp", "-p", c.mount+remote, local))
}

func (c mountClient) putDir(t *testing.T, local, remote string) {
	t.Helper()
	run(t, exec.CommandContext(t.Context(), "cp", "-pr", local, c.mount+remote))
}

func (c mountClient) list(t *testing.T, remote string) []string {
	t.Helper()
	entries, err := os.ReadDir(c.mount + remote)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func (c mountClient) rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(c.mount+from, c.mount+to); err != nil {
		t.Fatal(err)
	}
}

func (c mountClient) remove(t *testing.T, remote string) {
	t.Helper()
	if err := os.Remove(c.mount + remote); err != nil {
		t.Fatal(err)
	}
}
