package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"transferd/internal/store"
	"transferd/internal/transfer"
	"transferd/internal/tree"
)

// sumEvent is the digest of a file in --json.
type sumEvent struct {
	Event string `json:"event"` // "sum"
	named
	Blake3 string `json:"blake3"`
}

func newSumCommand(env *environ) *cobra.Command {
	var net netFlags
	cmd := &cobra.Command{
		Use:   "sum [flags] TARGET...",
		Short: "Print the BLAKE3 digests of files, as b3sum does",
		Long: `Print the BLAKE3 digest of each file in b3sum's format; - is stdin. A file on a
server that cannot hash is read from there.

` + exitCodeHelp,
		Example: "  transfer sum stack.tif host:stack.tif\n  transfer sum *.tif > SUMS && b3sum --check SUMS",
		Args:    atLeast(1, "a target"),
	}
	net.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		c, err := newClient(env, cmd, &net, store.Options{})
		if err != nil {
			return err
		}
		defer func() { err = c.end(err) }()
		tell := func(name string, digest tree.Digest) error {
			if net.json {
				out := jsonLines{out: env.stdout}
				out.write(sumEvent{Event: "sum", named: nameOf(name), Blake3: digest.String()})
				return out.close()
			}
			_, err := io.WriteString(env.stdout, sumLine(name, digest))
			return err
		}
		if len(args) == 1 && args[0] == "-" {
			digest, err := sumOf(env.stdin)
			if err != nil {
				return fmt.Errorf("read stdin: %w", err)
			}
			return tell("-", digest)
		}
		return c.each(cmd.Context(), args, func(ctx context.Context, place transfer.Place) error {
			digest, err := transfer.Sum(ctx, place)
			if errors.Is(err, tree.ErrIsDir) {
				err = &hintedError{tree.ErrIsDir, "name the files in it"}
			}
			if err != nil {
				return at(place, err)
			}
			return tell(place.Label, digest)
		})
	}
	return cmd
}

// sumLine writes a line as b3sum does: a name with a backslash or a line end
// has them escaped, and a backslash before the line says so.
func sumLine(name string, digest tree.Digest) string {
	name = strings.ToValidUTF8(name, "\uFFFD")
	if strings.ContainsAny(name, "\\\n") {
		name = strings.NewReplacer("\\", `\\`, "\n", `\n`).Replace(name)
		return "\\" + digest.String() + "  " + name + "\n"
	}
	return digest.String() + "  " + name + "\n"
}

// sumOf returns the digest of everything that r yields.
func sumOf(r io.Reader) (tree.Digest, error) {
	var values []tree.Value
	// One chunk is read ahead: the value of an only one is another.
	data, next := make([]byte, tree.MinChunkSize), make([]byte, tree.MinChunkSize)
	n, err := io.ReadFull(r, data)
	for index := int64(0); ; index++ {
		last := err != nil
		ahead := 0
		if !last {
			ahead, err = io.ReadFull(r, next)
			last = ahead == 0 && err != nil
		}
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return tree.Digest{}, err
		}
		values = append(values, tree.ChunkValue(data[:n], index, tree.MinChunkSize, index == 0 && last))
		if last {
			return tree.MergeValues(values), nil
		}
		data, next, n = next, data, ahead
	}
}
