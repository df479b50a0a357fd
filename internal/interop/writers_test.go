//go:build unix

package interop

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

func TestParamikoRandomWritesAreKept(t *testing.T) {
	d := startDaemon(t)
	c := paramikoClient{d: d, program: paramikoPython(t)}
	for seed := range 3 {
		name := "scatter" + strconv.Itoa(seed)
		mine := filepath.Join(t.TempDir(), name)
		c.call(t, "scatter", "/"+name, mine, strconv.Itoa(seed))
		sameFile(t, filepath.Join(d.Root, name), mine)
	}
}

func TestSSHFSRandomWritesAreKept(t *testing.T) {
	d := startDaemon(t)
	mount := mountSSHFS(t, d)
	mine := filepath.Join(t.TempDir(), "scatter")
	scatter(t, mine)
	scatter(t, filepath.Join(mount, "scatter"))
	sameFile(t, filepath.Join(d.Root, "scatter"), mine)
}

// scatter does to the file at path what databases and editors do: random
// writes, growth by truncate, reading back, appending.
func scatter(t *testing.T, path string) {
	t.Helper()
	rng := rand.New(rand.NewPCG(7, 7))
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	check(t, err)
	buf := make([]byte, 100_000)
	for range 300 {
		data := buf[:1+rng.IntN(len(buf))]
		for i := range data {
			data[i] = byte(rng.Uint32())
		}
		_, err := f.WriteAt(data, rng.Int64N(16<<20))
		check(t, err)
	}
	check(t, f.Truncate(20<<20))
	check(t, f.Sync())
	for range 50 {
		off := rng.Int64N(15 << 20)
		_, err := f.ReadAt(buf[:4096], off)
		check(t, err)
		_, err = f.WriteAt(buf[:4096], off+1<<20)
		check(t, err)
	}
	check(t, f.Truncate(17<<20))
	check(t, f.Close())
	f, err = os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0o600)
	check(t, err)
	for range 50 {
		_, err := f.Write(buf[:1000])
		check(t, err)
	}
	check(t, f.Close())
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
