package store

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"transferd/internal/tree"
)

// The journal of an upload, all numbers little-endian:
//
//	header    magic        8 bytes "TRANSFJ\n"
//	          version      u32, 1
//	          salt         u64, random: records of another journal do not fit
//	          size         i64, of the upload; -1 unknown
//	          chunk size   i64
//	          source       4 × 8 bytes: size, mtime ns, ctime ns, inode
//	          name length  u32, at most 4096
//	          name         what the journal belongs to
//	          crc          u32, CRC-32C of all before it
//	records   kind         u32
//	          index        i64
//	          value        32 bytes
//	          crc          u32, CRC-32C of the salt and the record
//
// Records are only appended. The first one that is short or whose CRC is wrong
// ends the journal: it is the tail that a crash tore.
const (
	journalMagic   = "TRANSFJ\n"
	journalVersion = 1
	journalFixed   = 8 + 4 + 8 + 8 + 8 + 32 + 4
	maxJournalName = 4096
	recordSize     = 48
)

type recordKind uint32

const (
	// recordDurable: chunk index is on the disk and has this value.
	recordDurable recordKind = 1

	// recordForget: chunk index is no longer what an earlier record says.
	recordForget recordKind = 2

	// recordOwner: index is the process that opened the journal, value its
	// host, cut to 32 bytes. It is for people who wait for the lock, and the
	// lock itself where the filesystem has none.
	recordOwner recordKind = 3

	// recordSource: the source changed. index is the new size of the upload,
	// value its identity (size, mtime, ctime, inode).
	recordSource recordKind = 4
)

type record struct {
	kind  recordKind
	index int64
	value tree.Value
}

// journalState is what a journal says.
type journalState struct {
	header tree.JournalHeader
	name   string
	salt   uint64

	mixed bool                 // chunks of several versions of the source
	have  map[int64]tree.Value // durable chunks
	pid   int64                // last owner
	host  string
	end   int64 // offset behind the last good record
}

// errNoJournal says that a file does not begin like a journal: it is new, or
// its header was torn, or it belongs to somebody else.
var errNoJournal = errors.New("no journal")

// sum is a CRC-32C; its table is made once by the package.
func sum(crc uint32, b []byte) uint32 {
	return crc32.Update(crc, crc32.MakeTable(crc32.Castagnoli), b)
}

func appendHeader(b []byte, st *journalState) []byte {
	start := len(b)
	le := binary.LittleEndian
	b = append(b, journalMagic...)
	b = le.AppendUint32(b, journalVersion)
	b = le.AppendUint64(b, st.salt)
	b = le.AppendUint64(b, uint64(st.header.Size))      //nolint:gosec // two's complement, read back the same way
	b = le.AppendUint64(b, uint64(st.header.ChunkSize)) //nolint:gosec // never negative
	source := identityValue(st.header.Source)
	b = append(b, source[:]...)
	b = le.AppendUint32(b, uint32(len(st.name))) //nolint:gosec // at most maxJournalName
	b = append(b, st.name...)
	return le.AppendUint32(b, sum(0, b[start:]))
}

func appendRecord(b []byte, salt uint64, r record) []byte {
	start := len(b)
	le := binary.LittleEndian
	b = le.AppendUint32(b, uint32(r.kind))
	b = le.AppendUint64(b, uint64(r.index)) //nolint:gosec // two's complement, read back the same way
	b = append(b, r.value[:]...)
	return le.AppendUint32(b, recordSum(salt, b[start:]))
}

func recordSum(salt uint64, r []byte) uint32 {
	var s [8]byte
	binary.LittleEndian.PutUint64(s[:], salt)
	return sum(sum(0, s[:]), r)
}

// readJournal reads a journal to its torn or whole end. It returns
// errNoJournal where there is none, and other errors of r as they are.
func readJournal(r io.Reader) (*journalState, error) {
	br := bufio.NewReaderSize(r, 64<<10)
	st, err := readHeader(br)
	if err != nil {
		return nil, err
	}
	var buf [recordSize]byte
	for {
		if _, err := io.ReadFull(br, buf[:]); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				return st, nil
			}
			return nil, err
		}
		le := binary.LittleEndian
		if le.Uint32(buf[44:]) != recordSum(st.salt, buf[:44]) {
			return st, nil
		}
		rec := record{
			kind:  recordKind(le.Uint32(buf[:])),
			index: int64(le.Uint64(buf[4:])), //nolint:gosec // two's complement
			value: tree.Value(buf[12:44]),
		}
		if !st.apply(rec) {
			return st, nil
		}
		st.end += recordSize
	}
}

func readHeader(br *bufio.Reader) (*journalState, error) {
	fixed, err := br.Peek(journalFixed)
	if err != nil {
		if errors.Is(err, io.EOF) {
			return nil, errNoJournal
		}
		return nil, err
	}
	le := binary.LittleEndian
	name := le.Uint32(fixed[journalFixed-4:])
	if string(fixed[:8]) != journalMagic || le.Uint32(fixed[8:]) != journalVersion || name > maxJournalName {
		return nil, errNoJournal
	}
	all := make([]byte, journalFixed+int(name)+4)
	if _, err := io.ReadFull(br, all); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, errNoJournal
		}
		return nil, err
	}
	body, crc := all[:len(all)-4], all[len(all)-4:]
	if le.Uint32(crc) != sum(0, body) {
		return nil, errNoJournal
	}
	st := &journalState{
		salt: le.Uint64(body[12:]),
		header: tree.JournalHeader{
			Size:      int64(le.Uint64(body[20:])), //nolint:gosec // two's complement
			ChunkSize: int64(le.Uint64(body[28:])), //nolint:gosec // two's complement
			Source:    valueIdentity(tree.Value(body[36:68])),
		},
		name: string(body[journalFixed:]),
		have: map[int64]tree.Value{},
		end:  int64(len(all)),
	}
	if st.header.ChunkSize <= 0 || st.header.Size < -1 {
		return nil, errNoJournal
	}
	return st, nil
}

// apply takes r into st; false means that r cannot be part of a journal.
func (st *journalState) apply(r record) bool {
	switch r.kind {
	case recordDurable:
		if !st.holds(r.index) {
			return false
		}
		st.have[r.index] = r.value
	case recordForget:
		if !st.holds(r.index) {
			return false
		}
		delete(st.have, r.index)
	case recordOwner:
		st.pid = r.index
		st.host = string(bytes.TrimRight(r.value[:], "\x00"))
	case recordSource:
		if r.index < -1 {
			return false
		}
		st.change(r.index, valueIdentity(r.value))
	default:
		return false
	}
	return true
}

// holds reports whether the upload has a chunk of this index.
func (st *journalState) holds(index int64) bool {
	h := st.header
	if h.Size < 0 {
		return index >= 0 && index <= (1<<62)/h.ChunkSize
	}
	return index >= 0 && index < tree.ChunkCount(h.Size, h.ChunkSize)
}

// change gives the upload a new size and source. What is durable of the old
// one is kept where a chunk has the same extent and the same kind of value: a
// short last chunk only if the size stays, and the root that a file of one
// chunk has is no chaining value.
func (st *journalState) change(size int64, source tree.Identity) {
	old := st.header
	st.header.Size, st.header.Source = size, source
	for i := range st.have {
		if !st.holds(i) || !sameChunk(i, old.Size, size, old.ChunkSize) {
			delete(st.have, i)
		}
	}
	if old.Source != source {
		st.mixed = len(st.have) > 0
	}
}

func sameChunk(i, oldSize, size, chunk int64) bool {
	if oldSize == size {
		return true
	}
	if oldSize < 0 || size < 0 {
		return false
	}
	return tree.ChunkExtent(i, oldSize, chunk) == tree.ChunkExtent(i, size, chunk) &&
		(tree.ChunkCount(oldSize, chunk) == 1) == (tree.ChunkCount(size, chunk) == 1)
}

// identityValue packs id into the 32 bytes of a record.
func identityValue(id tree.Identity) (v tree.Value) {
	le := binary.LittleEndian
	le.PutUint64(v[0:], uint64(id.Size))   //nolint:gosec // two's complement
	le.PutUint64(v[8:], uint64(id.Mtime))  //nolint:gosec // two's complement
	le.PutUint64(v[16:], uint64(id.Ctime)) //nolint:gosec // two's complement
	le.PutUint64(v[24:], id.Inode)
	return v
}

func valueIdentity(v tree.Value) tree.Identity {
	le := binary.LittleEndian
	return tree.Identity{
		Size:  int64(le.Uint64(v[0:])),  //nolint:gosec // two's complement
		Mtime: int64(le.Uint64(v[8:])),  //nolint:gosec // two's complement
		Ctime: int64(le.Uint64(v[16:])), //nolint:gosec // two's complement
		Inode: le.Uint64(v[24:]),
	}
}

// holder names the last owner for a person.
func (st *journalState) holder() string {
	if st.pid == 0 {
		return ""
	}
	return fmt.Sprintf("process %d on %s", st.pid, st.host)
}
