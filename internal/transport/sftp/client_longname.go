package sftp

import (
	"bytes"
	"strconv"

	"transferd/internal/tree"
)

// longNames takes the owner's and group's names and the number of links out of
// the line that servers send with every name of a list. It looks like that of
// "ls -l", but nothing says that it has to: what does not look right is left
// out.
func longNames(line []byte, e tree.Entry) (owner, group string, links uint64) {
	fields := bytes.Fields(line)
	if len(fields) < 9 || len(fields[0]) < 10 {
		return "", "", 0
	}
	links, err := strconv.ParseUint(string(fields[1]), 10, 32)
	size, serr := strconv.ParseInt(string(fields[4]), 10, 64)
	if err != nil || serr != nil || size != e.Size {
		return "", "", 0
	}
	return string(fields[2]), string(fields[3]), links
}
