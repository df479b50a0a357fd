//go:build linux

package bench

import (
	"bufio"
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"transferd/internal/testpeer"
)

var (
	rounds = flag.Int("rounds", 5, "counted rounds of each command; one more warms up")
	size   = flag.Int64("size", 1<<30, "bytes of the large file")
	files  = flag.Int("files", 10_000, "number of 4 KiB files")
	place  = flag.String("place", "/dev/shm", "directory for the files of both ends")
)

// A contender is one command that brings src to dst, which is then removed.
type contender struct {
	name string
	argv []string
	env  []string
	dst  string
	peak func() int64 // of the server, in bytes; nil if it is not ours
}

// A measure is one run of a contender.
type measure struct {
	wall time.Duration
	cpu  time.Duration // of the client
	peak int64         // bytes, of the client
}

const cipher = "aes128-gcm@openssh.com"

// BenchmarkPeers prints one table a workload, all over SFTP or ssh.
func BenchmarkPeers(b *testing.B) {
	dir, err := os.MkdirTemp(*place, "bench") //nolint:usetesting // on the disk that the flag names
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	bin := b.TempDir()
	mustRun(b, exec.CommandContext(b.Context(), "go", "build", "-o", bin+"/", "transferd/cmd/transfer", "transferd/cmd/transferd"))
	s := testpeer.StartSSHD(b, testpeer.SSHDOptions{External: true})
	d := startDaemon(b, bin, filepath.Join(dir, "served"), "127.0.0.1", nil)

	large := filepath.Join(dir, "large")
	fill(b, large, *size)
	small := filepath.Join(dir, "small")
	if err := os.Mkdir(small, 0o700); err != nil {
		b.Fatal(err)
	}
	for i := range *files {
		fill(b, filepath.Join(small, fmt.Sprintf("result-%05d.dat", i)), 4096)
	}
	home := b.TempDir()
	b.Run("upload-large", func(b *testing.B) { compare(b, uploads(b, bin, home, dir, large, s.Login, d)) })
	b.Run("download-large", func(b *testing.B) { compare(b, downloads(b, bin, home, dir, large, s.Login, d)) })
	b.Run("upload-small", func(b *testing.B) { compare(b, uploads(b, bin, home, dir, small, s.Login, d)) })
	b.Run("download-small", func(b *testing.B) { compare(b, downloads(b, bin, home, dir, small, s.Login, d)) })
}

// uploads are the commands that copy src to a server.
func uploads(b *testing.B, bin, home, dir, src string, l testpeer.Login, d *daemon) []contender {
	b.Helper()
	to := filepath.Join(dir, "copy")
	ssh := "ssh " + strings.Join(append(l.Options(), "-c", cipher), " ")
	return []contender{
		{name: "transfer → sshd", argv: transfer(bin, l, "--transport=sftp", "-r", src, l.Target()+":"+to), env: homeEnv(home), dst: to},
		{name: "scp (aes128-gcm)", argv: scp(b, l, src, l.Target()+":"+to), dst: to},
		{name: "sftp (aes128-gcm)", argv: sftp(b, l, "put -r "+src+" "+to), dst: to},
		{name: "rsync -W over ssh", argv: []string{testpeer.Need(b, "rsync"), "-aW", "-e", ssh, src + trail(src), l.Target() + ":" + to}, dst: to},
		{name: "rclone", argv: rclone(b, l, src, ":sftp:"+to), dst: to},
		{name: "transfer → transferd", argv: transfer(bin, d.Login, "--transport=sftp", "-r", src, d.Target()+":/copy"), env: homeEnv(home), dst: filepath.Join(d.root, "copy"), peak: d.peak},
		{name: "sftp → transferd", argv: sftp(b, d.Login, "put -r "+src+" /copy"), dst: filepath.Join(d.root, "copy"), peak: d.peak},
	}
}

// downloads are the commands that copy src from a server.
func downloads(b *testing.B, bin, home, dir, src string, l testpeer.Login, d *daemon) []contender {
	b.Helper()
	to := filepath.Join(dir, "copy")
	ssh := "ssh " + strings.Join(append(l.Options(), "-c", cipher), " ")
	served := filepath.Join(d.root, filepath.Base(src))
	if _, err := os.Lstat(served); os.IsNotExist(err) {
		mustRun(b, exec.CommandContext(b.Context(), "cp", "-a", src, served))
	}
	return []contender{
		{name: "sshd → transfer", argv: transfer(bin, l, "--transport=sftp", "-r", l.Target()+":"+src, to), env: homeEnv(home), dst: to},
		{name: "scp (aes128-gcm)", argv: scp(b, l, l.Target()+":"+src, to), dst: to},
		{name: "sftp (aes128-gcm)", argv: sftp(b, l, "get -r "+src+" "+to), dst: to},
		{name: "rsync -W over ssh", argv: []string{testpeer.Need(b, "rsync"), "-aW", "-e", ssh, l.Target() + ":" + src + trail(src), to}, dst: to},
		{name: "rclone", argv: rclone(b, l, ":sftp:"+src, to), dst: to},
		{name: "transferd → transfer", argv: transfer(bin, d.Login, "--transport=sftp", "-r", d.Target()+":/"+filepath.Base(src), to), env: homeEnv(home), dst: to, peak: d.peak},
		{name: "transferd → sftp", argv: sftp(b, d.Login, "get -r /"+filepath.Base(src)+" "+to), dst: to, peak: d.peak},
	}
}

func transfer(bin string, l testpeer.Login, args ...string) []string {
	return append([]string{
		filepath.Join(bin, "transfer"), "copy", "-q", "-P", strconv.Itoa(l.Port), "-i", l.Identity,
		"-F", "none", "--known-hosts", l.KnownHosts,
	}, args...)
}

func scp(b *testing.B, l testpeer.Login, from, to string) []string {
	b.Helper()
	return append(append([]string{testpeer.Need(b, "scp")}, l.Options()...), "-q", "-p", "-r", "-c", cipher, from, to)
}

func sftp(b *testing.B, l testpeer.Login, line string) []string {
	b.Helper()
	file := filepath.Join(b.TempDir(), "batch")
	if err := os.WriteFile(file, []byte(line+"\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	return append(append([]string{testpeer.Need(b, "sftp")}, l.Options()...), "-q", "-c", cipher, "-b", file, l.Target())
}

func rclone(b *testing.B, l testpeer.Login, from, to string) []string {
	b.Helper()
	verb := "copy"
	if info, err := os.Stat(strings.TrimPrefix(from, ":sftp:")); err == nil && !info.IsDir() {
		verb = "copyto"
	}
	return []string{
		testpeer.Need(b, "rclone"), "--config", filepath.Join(b.TempDir(), "none"), "--sftp-host", l.Host,
		"--sftp-port", strconv.Itoa(l.Port), "--sftp-user", l.User, "--sftp-key-file", l.Identity,
		"--sftp-known-hosts-file", l.KnownHosts, "--sftp-disable-hashcheck", verb, from, to,
	}
}

// trail makes rsync copy a directory's contents, so that the copy has the name
// that all others give it.
func trail(src string) string {
	if info, err := os.Stat(src); err == nil && info.IsDir() {
		return "/"
	}
	return ""
}

// native copies by our own protocol on TCP.
func native(bin string, d *daemon, args ...string) []string {
	l := d.Login
	l.Port = d.tcp
	return transfer(bin, l, append([]string{"--transport=tcp"}, args...)...)
}

func homeEnv(home string) []string {
	return append(os.Environ(), "HOME="+home, "XDG_STATE_HOME=", "XDG_CONFIG_HOME=", "SSH_AUTH_SOCK=")
}

// compare runs the contenders in turn, round by round, and prints medians and
// their ratio to the first.
func compare(b *testing.B, all []contender) {
	b.Helper()
	got := make([][]measure, len(all))
	for round := range *rounds + 1 {
		for i, c := range all {
			m := once(b, c)
			if round > 0 {
				got[i] = append(got[i], m)
			}
		}
	}
	table := &strings.Builder{}
	_, _ = fmt.Fprintf(table, "\n| command | wall min / median / max s | of the first | client cpu s | client peak MiB | daemon peak MiB |\n|---|---|---|---|---|---|\n")
	first := median(got[0]).wall
	for i, c := range all {
		m := median(got[i])
		lo := slices.MinFunc(got[i], byWall).wall
		hi := slices.MaxFunc(got[i], byWall).wall
		peak := ""
		if c.peak != nil {
			peak = strconv.FormatInt(c.peak()>>20, 10)
		}
		_, _ = fmt.Fprintf(table, "| %s | %.2f / %.2f / %.2f | %.2f | %.2f | %d | %s |\n", c.name, lo.Seconds(), m.wall.Seconds(), hi.Seconds(),
			m.wall.Seconds()/first.Seconds(), m.cpu.Seconds(), m.peak>>20, peak)
	}
	b.Log(table.String())
	b.ReportMetric(first.Seconds(), "s/copy")
}

func byWall(x, y measure) int { return cmp.Compare(x.wall, y.wall) }

func median(ms []measure) measure {
	sorted := slices.SortedFunc(slices.Values(ms), byWall)
	return sorted[len(sorted)/2]
}

// once runs one command and removes what it made.
func once(b *testing.B, c contender) measure {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), c.argv[0], c.argv[1:]...)
	cmd.Env = c.env
	start := time.Now()
	out, err := cmd.CombinedOutput()
	wall := time.Since(start)
	if err != nil {
		b.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	if _, err := os.Lstat(c.dst); err != nil {
		b.Fatalf("%s made nothing: %v\n%s", cmd, err, out)
	}
	if err := os.RemoveAll(c.dst); err != nil {
		b.Fatal(err)
	}
	m := measure{wall: wall, cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}
	if u, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		m.peak = u.Maxrss << 10
	}
	return m
}

// A daemon is a running transferd.
type daemon struct {
	testpeer.Login
	root string
	tcp  int // port of our own protocol
	pid  int
}

// startDaemon starts a transferd at host; wrap is a command that runs it.
func startDaemon(b *testing.B, bin, root, host string, wrap []string) *daemon {
	b.Helper()
	me, err := user.Current()
	if err != nil {
		b.Fatal(err)
	}
	if err := os.Mkdir(root, 0o700); err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	d := &daemon{root: root, Login: testpeer.Login{
		Host: host, User: me.Username,
		Identity: testpeer.Key(b, dir, "id_ed25519", "ed25519"), KnownHosts: filepath.Join(dir, "known_hosts"),
	}}
	ctx, cancel := context.WithCancel(context.Background())
	argv := append(slices.Clone(wrap), filepath.Join(bin, "transferd"), "serve", "--root", root, "--log-level", "warn",
		"--ssh-listen", host+":0", "--tcp-listen", host+":0",
		"--authorized-keys", d.Identity+".pub", "--state-dir", filepath.Join(dir, "state"))
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
	})
	d.pid = cmd.Process.Pid
	lines := bufio.NewScanner(stdout)
	for d.tcp == 0 && lines.Scan() { // SSH comes first
		_, address, ok := strings.Cut(lines.Text(), " listening on ")
		if !ok {
			continue
		}
		port, err := strconv.Atoi(address[strings.LastIndexByte(address, ':')+1:])
		if err != nil {
			b.Fatal(err)
		}
		if d.Port == 0 {
			d.Port = port
		} else {
			d.tcp = port
		}
	}
	keys, err := filepath.Glob(filepath.Join(dir, "state", "*.pub"))
	if err != nil || len(keys) == 0 {
		b.Fatalf("no host key: %v", err)
	}
	public, err := os.ReadFile(keys[0])
	if err != nil {
		b.Fatal(err)
	}
	d.WriteKnownHosts(b, string(public), d.tcp)
	return d
}

// peak is the largest resident size that the daemon ever had.
func (d *daemon) peak() int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmHWM:" {
			kib, err := strconv.ParseInt(f[1], 10, 64)
			if err == nil {
				return kib << 10
			}
		}
	}
	return 0
}

func mustRun(b *testing.B, cmd *exec.Cmd) {
	b.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%s: %v\n%s", cmd, err, out)
	}
}

// fill makes a file of n random bytes.
func fill(b *testing.B, path string, n int64) {
	b.Helper()
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	var seed [32]byte
	copy(seed[:], path)
	if _, err := io.CopyN(f, rand.NewChaCha8(seed), n); err != nil {
		b.Fatal(err)
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
}
