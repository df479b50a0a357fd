package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"transferd/config"
	"transferd/internal/transfer"
	"transferd/internal/tree"
)

// preserveAll is what -p alone means, and what is on by default.
const preserveAll = "mode,times"

// copyFlags are the flags of transfer copy beyond netFlags.
type copyFlags struct {
	recursive   bool
	preserve    string
	noPreserve  bool
	follow      bool
	resume      bool
	noResume    bool
	checksum    bool
	inPlace     bool
	include     []string
	exclude     []string
	dryRun      bool
	noTargetDir bool

	// scp's
	limit   string // -l, Kbit/s
	middle  bool   // -3, which is how it always is
	squeeze bool   // -C
}

func (c *copyFlags) add(cmd *cobra.Command, net *netFlags) {
	f := cmd.Flags()
	f.BoolVarP(&c.recursive, "recursive", "r", false, "copy directories with everything in them")
	f.StringVarP(&c.preserve, "preserve", "p", preserveAll, "keep these of `mode,times,owner,links,xattrs`")
	f.Lookup("preserve").NoOptDefVal = preserveAll
	f.BoolVar(&c.noPreserve, "no-preserve", false, "keep neither mode nor times")
	f.BoolVarP(&c.follow, "dereference", "L", false, "copy what symlinks lead to, not the links")
	f.BoolVar(&c.resume, "resume", true, "go on where an earlier run stopped")
	f.BoolVar(&c.noResume, "no-resume", false, "throw away what an earlier run left")
	addText(f, "verify", "", "HOW", "fast or full: how much is read again to check it (default fast)")
	addText(f, "streams", "", "N", "connections or channels to a server; 0 adapts (default 0)")
	addText(f, "bwlimit", "", "RATE", "bytes a second on the wire, over all streams, such as 80MiB or 1GB; 0 for no limit")
	addText(f, "compress", "", "HOW", "auto, zstd or off: what travels smaller, not over SFTP (default auto)")
	addText(f, "sparse", "", "HOW", "auto or off: keep the holes of sparse files (default auto)")
	addText(f, "fsync", "", "HOW", "auto, always or off: when copies are forced to the disk (default auto)")
	addText(f, "overwrite", "", "WHAT", "always, never or newer: what happens to files that are there (default always)")
	f.BoolVar(&c.checksum, "checksum", false, "compare files of the same size by digest, not by time")
	f.BoolVar(&c.inPlace, "inplace", false, "write into the existing file, keeping its inode; a broken copy then damages it")
	f.StringArrayVar(&c.include, "include", nil, "copy only what matches `GLOB`; repeatable")
	f.StringArrayVar(&c.exclude, "exclude", nil, "leave out what matches `GLOB`; repeatable")
	f.BoolVarP(&c.dryRun, "dry-run", "n", false, "only tell what would be copied")
	addText(f, "retries", "", "N", "attempts after a lost connection")
	addText(f, "progress", "", "HOW", "auto, bar, plain or none (default auto)")
	f.BoolVarP(&c.noTargetDir, "no-target-directory", "T", false, "the target is exactly the copy, never a directory for it")

	choices(cmd, "verify", "fast", "full")
	choices(cmd, "compress", "auto", "zstd", "off")
	choices(cmd, "sparse", "auto", "off")
	choices(cmd, "fsync", "auto", "always", "off")
	choices(cmd, "overwrite", "always", "never", "newer")
	choices(cmd, "progress", "auto", "bar", "plain", "none")

	f.StringVarP(&net.ciphers, "cipher", "c", "", "ssh `CIPHERS`, the best first; several with commas")
	f.StringVarP(&c.limit, "limit", "l", "", "as scp: --bwlimit in `KBIT` a second")
	f.BoolVarP(&net.batch, "batch", "B", false, "ask nothing; what needs an answer fails")
	f.BoolVarP(&c.squeeze, "zstd", "C", false, "as scp: --compress=zstd")
	f.BoolVarP(&c.middle, "through-client", "3", false, "as scp: between two servers copy through this machine, which is always so")
	refuse(f, "scp-program", "S", true, "the SSH client is built in; use -o, -J and --ssh-config")
	refuse(f, "scp-agent", "A", false, "between two servers the data goes through this machine, so no agent needs forwarding; leave -A out")
	refuse(f, "scp-legacy", "O", false, "the old scp protocol is not spoken; so leave -O out; --transport=sftp is SFTP")
	refuse(f, "scp-direct", "R", false, "between two servers the data goes through this machine; leave -R out")
}

// finish checks what flags mean together and hands -l and -C over to net.
func (c *copyFlags) finish(cmd *cobra.Command, net *netFlags) error {
	changed := cmd.Flags().Changed
	switch {
	case changed("resume") && changed("no-resume"):
		return usagef("--resume and --no-resume do not go together")
	case changed("preserve") && c.noPreserve:
		return usagef("--preserve and --no-preserve do not go together")
	case changed("limit") && changed("bwlimit"):
		return usagef("-l and --bwlimit do not go together")
	case c.squeeze && changed("compress"):
		return usagef("-C and --compress do not go together; -C is --compress=zstd")
	}
	net.extra = config.ClientFlags{}
	if c.squeeze {
		net.extra["compress"] = []string{"zstd"}
	}
	if changed("limit") {
		kbit, err := strconv.ParseInt(c.limit, 10, 64)
		if err != nil || kbit < 0 || kbit > 1<<40 {
			return usagef("-l takes a number of Kbit a second, not %q; --bwlimit takes bytes with a unit", c.limit)
		}
		net.extra["bwlimit"] = []string{fmt.Sprintf("%dB", kbit*1000/8)}
	}
	return nil
}

// preserved reads the list of --preserve.
func (c *copyFlags) preserved() (transfer.Preserve, error) {
	var p transfer.Preserve
	if c.noPreserve {
		return p, nil
	}
	for word := range strings.SplitSeq(c.preserve, ",") {
		switch strings.TrimSpace(word) {
		case "mode":
			p.Mode = true
		case "times", "timestamps":
			p.Times = true
		case "owner", "ownership":
			p.Owner = true
		case "links":
			p.Links = true
		case "xattrs":
			p.Xattrs = true
		case "":
		default:
			return p, usagef("--preserve takes mode, times, owner, links and xattrs, separated by commas, not %q", word)
		}
	}
	return p, nil
}

// options makes the engine's options of the flags and the settings.
func (c *copyFlags) options(env *environ, cfg config.Client) (transfer.Options, error) {
	preserve, err := c.preserved()
	if err != nil {
		return transfer.Options{}, err
	}
	o := transfer.Options{
		Recursive:   c.recursive,
		Follow:      c.follow,
		Include:     c.include,
		Exclude:     c.exclude,
		NoTargetDir: c.noTargetDir,
		Checksum:    c.checksum,
		DryRun:      c.dryRun,
		Preserve:    preserve,
		Umask:       env.umask,
		NoResume:    c.noResume || !c.resume,
		NoSparse:    cfg.Sparse == "off",
		InPlace:     c.inPlace,
		Bandwidth:   cfg.BWLimit,
		Retries:     cfg.Retries,
	}
	// config has checked the words; what is not here is the zero value.
	if cfg.Verify == "full" {
		o.Verify = tree.VerifyFull
	}
	switch cfg.Fsync {
	case "always":
		o.Fsync = tree.FsyncAlways
	case "off":
		o.Fsync = tree.FsyncOff
	}
	switch cfg.Overwrite {
	case "never":
		o.Overwrite = transfer.OverwriteNever
	case "newer":
		o.Overwrite = transfer.OverwriteNewer
	}
	return o, nil
}
