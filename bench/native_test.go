//go:build linux

package bench

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"transferd/bench/wan"
	"transferd/internal/testpeer"
)

// BenchmarkNative holds our own protocol on TCP against rsync's daemon, which
// neither encrypts nor verifies, and the others.
func BenchmarkNative(b *testing.B) {
	dir := workDir(b)
	bin := build(b)
	s := testpeer.StartSSHD(b, testpeer.SSHDOptions{External: true})
	d := startDaemon(b, bin, filepath.Join(dir, "served"), "127.0.0.1", nil)
	r := startRsync(b, dir, "127.0.0.1", nil)
	large, small, sparse := makeLarge(b, dir), makeSmall(b, dir), makeSparse(b, dir)
	home := b.TempDir()
	for _, src := range []string{large, small} {
		name := filepath.Base(src)
		b.Run("upload-"+name, func(b *testing.B) { compare(b, nativeUploads(b, bin, home, dir, src, s.Login, d, r)) })
		b.Run("download-"+name, func(b *testing.B) { compare(b, nativeDownloads(b, bin, home, dir, src, s.Login, d, r)) })
	}
	b.Run("upload-sparse", func(b *testing.B) {
		to := filepath.Join(dir, "copy")
		tar := fmt.Sprintf("tar -C %s -S -cf - sparse | ssh %s -c %s %s 'mkdir %s && tar -C %s -S -xf -'",
			dir, strings.Join(s.Options(), " "), cipher, s.Target(), to, to)
		compare(b, []contender{
			{name: "tar -S over ssh", argv: []string{"sh", "-c", tar}, dst: to},
			{name: "transfer tcp", argv: native(bin, d, sparse, d.Target()+":/copy"), env: homeEnv(home), dst: filepath.Join(d.root, "copy"), peak: d.peak},
		})
	})
}

func nativeUploads(b *testing.B, bin, home, dir, src string, l testpeer.Login, d *daemon, r rsync) []contender {
	b.Helper()
	to := filepath.Join(d.root, "copy")
	all := []contender{
		{name: "rsync -W to its daemon", argv: r.argv(b, src+trail(src), r.url("copy")), dst: filepath.Join(dir, "copy")},
		{name: "transfer tcp", argv: native(bin, d, "-r", src, d.Target()+":/copy"), env: homeEnv(home), dst: to, peak: d.peak},
		{name: "transfer auto", argv: transfer(bin, d.Login, "-r", src, d.Target()+":/copy"), env: homeEnv(home), dst: to, peak: d.peak},
		{name: "transfer ssh", argv: transfer(bin, d.Login, "--transport=ssh", "-r", src, d.Target()+":/copy"), env: homeEnv(home), dst: to, peak: d.peak},
	}
	if l.Host == "" {
		return all
	}
	to = filepath.Join(dir, "copy")
	return append(all, contender{name: "scp (aes128-gcm)", argv: scp(b, l, src, l.Target()+":"+to), dst: to})
}

func nativeDownloads(b *testing.B, bin, home, dir, src string, l testpeer.Login, d *daemon, r rsync) []contender {
	b.Helper()
	serve(b, d, src)
	from, to := d.Target()+":/"+filepath.Base(src), filepath.Join(dir, "copy")
	all := []contender{
		{name: "rsync -W from its daemon", argv: r.argv(b, r.url(filepath.Base(src))+trail(src), to), dst: to},
		{name: "transfer tcp", argv: native(bin, d, "-r", from, to), env: homeEnv(home), dst: to, peak: d.peak},
		{name: "transfer auto", argv: transfer(bin, d.Login, "-r", from, to), env: homeEnv(home), dst: to, peak: d.peak},
		{name: "transfer ssh", argv: transfer(bin, d.Login, "--transport=ssh", "-r", from, to), env: homeEnv(home), dst: to, peak: d.peak},
	}
	if l.Host == "" {
		return all
	}
	return append(all, contender{name: "scp (aes128-gcm)", argv: scp(b, l, l.Target()+":"+src, to), dst: to})
}

// BenchmarkWAN does it over a line of 1 Gbit/s with a round trip of 50 ms, as
// it is and with a loss of 0.05 %, under each congestion control that there is.
func BenchmarkWAN(b *testing.B) {
	if os.Getuid() != 0 {
		b.Skip("network namespaces need root")
	}
	const rate, delay = 1_000_000_000, 25 * time.Millisecond
	bin := build(b)
	for _, loss := range []float64{0, 0.0005} {
		for _, control := range []string{"cubic", "bbr"} {
			b.Run(fmt.Sprintf("loss=%v/%s", loss, control), func(b *testing.B) {
				line, err := wan.Start(b.Context(), wan.Link{Delay: delay, Rate: rate, Loss: loss})
				if err != nil {
					b.Fatal(err)
				}
				b.Cleanup(func() { _ = line.Close() })
				for _, end := range []wan.End{line.Near, line.Far} {
					set := end.Command(b.Context(), "sysctl", "-qw", "net.ipv4.tcp_congestion_control="+control)
					if out, err := set.CombinedOutput(); err != nil {
						b.Skipf("no %s here: %s", control, out)
					}
				}
				b.Logf("iperf3 -P 4: %.0f Mbit/s", iperf(b, line)/1e6)
				overLine(b, bin, line, loss)
			})
		}
	}
}

// overLine compares copies to the far end of line.
func overLine(b *testing.B, bin string, line *wan.Net, loss float64) {
	b.Helper()
	dir := workDir(b)
	far, near := line.Far.Wrap(), line.Near.Wrap()
	s := testpeer.StartSSHD(b, testpeer.SSHDOptions{External: true, Host: line.Far.Address, Wrap: far})
	d := startDaemon(b, bin, filepath.Join(dir, "served"), line.Far.Address, far)
	r := startRsync(b, dir, line.Far.Address, far)
	home := b.TempDir()
	at := func(cs []contender) []contender {
		for i := range cs {
			cs[i].argv = append(slices.Clone(near), cs[i].argv...)
		}
		return cs
	}
	large := makeLarge(b, dir)
	b.Run("upload-large", func(b *testing.B) { compare(b, at(nativeUploads(b, bin, home, dir, large, s.Login, d, r))) })
	if loss > 0 {
		return
	}
	b.Run("download-large", func(b *testing.B) { compare(b, at(nativeDownloads(b, bin, home, dir, large, s.Login, d, r))) })
	for _, streams := range []string{"1", "2", "4", "8", "0"} {
		to := filepath.Join(d.root, "copy")
		b.Run("streams="+streams, func(b *testing.B) {
			compare(b, at([]contender{{
				name: "transfer tcp --streams " + streams, env: homeEnv(home), dst: to, peak: d.peak,
				argv: native(bin, d, "--streams", streams, large, d.Target()+":/copy"),
			}}))
		})
	}
	small := makeSmall(b, dir)
	none := testpeer.Login{} // the others would take minutes
	b.Run("upload-small", func(b *testing.B) { compare(b, at(nativeUploads(b, bin, home, dir, small, none, d, r))) })
	b.Run("download-small", func(b *testing.B) { compare(b, at(nativeDownloads(b, bin, home, dir, small, none, d, r))) })
}

// workDir is a directory for the files of both ends.
func workDir(b *testing.B) string {
	b.Helper()
	dir, err := os.MkdirTemp(*place, "bench") //nolint:usetesting // on the disk that the flag names
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func build(b *testing.B) string {
	b.Helper()
	bin := b.TempDir()
	mustRun(b, exec.CommandContext(b.Context(), "go", "build", "-o", bin+"/", "transferd/cmd/transfer", "transferd/cmd/transferd"))
	return bin
}

func makeLarge(b *testing.B, dir string) string {
	b.Helper()
	large := filepath.Join(dir, "large")
	fill(b, large, *size)
	return large
}

func makeSmall(b *testing.B, dir string) string {
	b.Helper()
	small := filepath.Join(dir, "small")
	if err := os.Mkdir(small, 0o700); err != nil {
		b.Fatal(err)
	}
	for i := range *files {
		fill(b, filepath.Join(small, fmt.Sprintf("result-%05d.dat", i)), 4096)
	}
	return small
}

// makeSparse makes a file of 2 GiB with 32 islands of 1 MiB.
func makeSparse(b *testing.B, dir string) string {
	b.Helper()
	path := filepath.Join(dir, "sparse")
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	data := make([]byte, 1<<20)
	for i := range data {
		data[i] = byte(i*i + i>>8)
	}
	for i := range int64(32) {
		if _, err := f.WriteAt(data, i<<26+12345); err != nil {
			b.Fatal(err)
		}
	}
	if err := f.Truncate(2 << 30); err != nil {
		b.Fatal(err)
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	return path
}

// serve puts src below the daemon's root.
func serve(b *testing.B, d *daemon, src string) {
	b.Helper()
	served := filepath.Join(d.root, filepath.Base(src))
	if _, err := os.Lstat(served); os.IsNotExist(err) {
		mustRun(b, exec.CommandContext(b.Context(), "cp", "-a", src, served))
	}
}

// An rsync is a running rsync daemon with a module for dir.
type rsync struct {
	address string
}

func startRsync(b *testing.B, dir, host string, wrap []string) rsync {
	b.Helper()
	program := testpeer.Need(b, "rsync")
	config := filepath.Join(b.TempDir(), "rsyncd.conf")
	text := "use chroot = no\nuid = 0\ngid = 0\n[m]\n  path = " + dir + "\n  read only = no\n"
	if os.Getuid() != 0 {
		text = strings.ReplaceAll(text, "uid = 0\ngid = 0\n", "")
	}
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	l, err := new(net.ListenConfig).Listen(b.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	argv := append(slices.Clone(wrap), program, "--daemon", "--no-detach", "--address", host, "--port", port, "--config", config)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
	})
	time.Sleep(time.Second) //nolint:forbidigo // it does not say when it listens
	return rsync{host + ":" + port}
}

func (r rsync) url(name string) string { return "rsync://" + r.address + "/m/" + name }

func (r rsync) argv(b *testing.B, from, to string) []string {
	b.Helper()
	return []string{testpeer.Need(b, "rsync"), "-aW", from, to}
}

// iperf returns what four streams reach, in bits a second.
func iperf(b *testing.B, line *wan.Net) float64 {
	b.Helper()
	program := testpeer.Need(b, "iperf3")
	server := line.Far.Command(b.Context(), program, "-s", "-1")
	if err := server.Start(); err != nil {
		b.Fatal(err)
	}
	time.Sleep(time.Second) //nolint:forbidigo // it does not say when it listens
	out, err := line.Near.Command(b.Context(), program, "-c", line.Far.Address, "-P", "4", "-t", "10", "-f", "k").CombinedOutput()
	_ = server.Wait()
	if err != nil {
		b.Fatalf("iperf3: %v\n%s", err, out)
	}
	for text := range strings.Lines(string(out)) {
		f := strings.Fields(text)
		if len(f) > 6 && f[0] == "[SUM]" && strings.HasSuffix(strings.TrimSpace(text), "receiver") {
			rate, err := strconv.ParseFloat(f[5], 64)
			if err != nil {
				b.Fatal(err)
			}
			return rate * 1000
		}
	}
	b.Fatalf("no sum in\n%s", out)
	return 0
}
