package protocol

type sample struct {
	name string
	id   uint64
	m    Message
}

// fill returns n bytes that count up from first.
func fill(first byte, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = first + byte(i)
	}
	return b
}

func fill32(first byte) [32]byte { return [32]byte(fill(first, 32)) }

func sampleEntry() Entry {
	return Entry{
		Kind: KindFile, Size: 1 << 40, Perm: 0o644, Mtime: 1700000000123456789, Atime: 1700000001, Ctime: -1,
		UID: 1000, GID: 100, Owner: "lab", Group: "users", Nlink: 2, Device: 7, Inode: 42, Grain: 1,
		Xattrs: []Xattr{{"user.a", []byte{0xff}}, {"user.b", nil}},
	}
}

func sampleAttr() Attr {
	return Attr{
		Set: attrKnown, Size: 5, Perm: 0o4755, Mtime: -1, Atime: 2, UID: 3, GID: 4,
		Xattrs: []Xattr{{"user.c", []byte("v")}},
	}
}

// sampleMessages holds every message, with every field set at least once.
func sampleMessages() []sample {
	at := Place{Dir: 3, Path: "a/b"}
	return []sample{
		{"HELLO", 0, &Hello{
			MinVersion: 1, MaxVersion: 2, Nonce: fill32(0), MaxData: MaxData, Software: "transfer 1",
			Algorithms: []string{"ssh-ed25519", "rsa-sha2-512"}, Extensions: []Extension{{"zstd", nil}, {"x@example.org", []byte{1}}},
		}},
		{"HELLO/least", 0, &Hello{MinVersion: 1, MaxVersion: 1, MaxData: MinData}},
		{"SERVER_HELLO", 0, &ServerHello{Version: 1, Nonce: fill32(0x20), MaxData: MinData, Software: "transferd 1", Extensions: []Extension{{"zstd", nil}}}},
		{"HOST_PROOF", 0, &HostProof{Key: fill(1, 5), Signature: fill(0x81, 6)}},
		{"OFFER", 0, &Offer{User: "lab", Keys: [][]byte{fill(1, 3), fill(4, 2)}}},
		{"OFFERED", 0, &Offered{Keys: 2}},
		{"PROVE", 0, &Prove{User: "lab", Key: fill(4, 2), Signature: fill(0x40, 4)}},
		{"WELCOME", 0, &Welcome{
			Session: [16]byte(fill(0x50, 16)), Secret: fill32(0x60), TLSKey: fill32(0x90), TCPPort: 2023, Binding: BindingSSH,
			Flags: WelcomeConfined, User: "lab", Home: ".", Streams: 16, Operations: 1024, Handles: 256, Inline: MaxInline, Window: 96 << 20,
		}},
		{"JOIN", 0, &Join{Session: [16]byte(fill(0x50, 16)), Stream: 1, MAC: fill32(0xa0)}},
		{"JOINED", 0, &Joined{MAC: fill32(0xc0)}},

		{"PING", 0, &Ping{Nonce: 1 << 60}},
		{"PONG", 0, &Pong{Nonce: 1 << 60}},
		{"GOODBYE", 0, &Goodbye{Code: CodeShutdown, Message: "the daemon ends"}},
		{"FAIL", 9, &Fail{Code: CodeNotFound, Message: "a/b: not found"}},
		{"FAIL/of a later version", 9, &Fail{Code: 0xffff}},
		{"OK", 9, &OK{}},
		{"CANCEL", 9, &Cancel{}},
		{"MORE", 9, &More{Frames: 4}},
		{"EXTEND", 9, &Extend{Name: "x@example.org", Body: []byte{1, 2}}},
		{"EXTENDED", 9, &Extended{Body: []byte{3}}},

		{"STAT", 10, &Stat{Place: at, Flags: StatFollow | StatXattrs}},
		{"FOUND", 10, &Found{Entry: sampleEntry()}},
		{"LIST", 11, &List{Place: Place{Path: "."}, Flags: ListDeep, Frames: 8}},
		{"LISTED", 11, &Listed{Last: true, Names: []Listing{
			{Path: "l", Entry: Entry{Kind: KindSymlink, Size: 2, Perm: 0o777, Link: "..", Grain: 1}},
			{Path: "d/e", Code: CodePermission},
		}}},
		{"RESOLVE", 12, &Resolve{Text: "~/x"}},
		{"RESOLVED", 12, &Resolved{Path: "home/lab/x"}},
		{"MEASURE", 13, &Measure{Place: at}},
		{"MEASURED", 13, &Measured{4096, 1 << 40, 3 << 38, 1 << 39, 1000, 900, 800, 77, 255, SpaceReadOnly | SpaceNoSuid}},
		{"SUM", 14, &Sum{Place: at}},
		{"SUMMED", 14, &Summed{Digest: fill32(1)}},

		{"MKDIR", 15, &Mkdir{Place: at, Perm: 0o755}},
		{"SYMLINK", 16, &Symlink{Place: at, Target: "../c"}},
		{"LINK", 17, &Link{From: at, To: Place{Path: "c"}}},
		{"RENAME", 18, &Rename{From: at, To: Place{Path: "c"}, Mode: RenameNoReplace}},
		{"REMOVE", 19, &Remove{Place: at}},
		{"SET_ATTR", 20, &SetAttr{Place: at, Attr: sampleAttr()}},
		{"SET_ATTR/times", 20, &SetAttr{Place: at, Attr: Attr{Set: AttrMtime, Mtime: 1}}},

		{"OPEN_DIR", 21, &OpenDir{Place: Place{Path: "a"}, Handle: 3}},
		{"OPEN", 22, &Open{Place: at, Handle: 4, Flags: OpenRead | OpenWrite | OpenCreate, Perm: 0o600}},
		{"CLOSE", 23, &Close{Handle: 4}},
		{"STAT_FILE", 24, &StatFile{Handle: 4}},
		{"SET_ATTR_FILE", 25, &SetAttrFile{Handle: 4, Attr: Attr{Set: AttrSize, Size: 9}}},
		{"SYNC", 26, &Sync{Handle: 4}},
		{"READ", 27, &Read{Handle: 4, Offset: 1 << 20, Length: 1 << 20, Flags: ReadZstd | ReadHoles | ReadValue, Chunk: 1 << 20}},
		{"WRITE", 28, &Write{Handle: 4, Offset: 3, Data: []byte("data")}},
		{"DATA", 29, &Data{Offset: 1 << 20, Length: 3, Flags: DataLast | DataValue, Value: fill32(2), Payload: []byte("abc")}},
		{"DATA/zstd", 29, &Data{Length: 300, Encoding: EncodingZstd, Payload: []byte{0x28, 0xb5, 0x2f, 0xfd}}},
		{"DATA/hole", 29, &Data{Offset: 4096, Length: 4096, Encoding: EncodingHole}},
		{"DATA/end", 27, &Data{Offset: 1 << 21, Flags: DataLast | DataEOF}},
		{"MAP", 30, &Map{Handle: 4, Offset: 1}},
		{"MAPPED", 30, &Mapped{Last: true, Extents: []Extent{{0, 4096}, {8192, 1}}}},
		{"HASH", 31, &Hash{Handle: 4, Chunk: 1 << 20, First: 2, Count: 3}},
		{"HASHED", 31, &Hashed{Values: []Value{fill32(3), fill32(4)}}},

		{"GET", 32, &Get{Place: at, Flags: ReadZstd, Limit: 4096}},
		{"GOT", 32, &Got{Entry: Entry{Kind: KindFile, Size: 2, Perm: 0o600}, Digest: fill32(5), Data: []byte("hi")}},
		{"PUT", 33, &Put{
			Place: at, Flags: UploadNoReplace, Verify: VerifyFull, Fsync: FsyncAlways, Origin: "m:/x", Attr: Attr{Set: AttrPerm, Perm: 0o640},
			Size: 5, Digest: fill32(6), Data: []byte("hello"),
		}},
		{"PUT/empty", 34, &Put{Place: at, Digest: fill32(6)}},

		{"BEGIN", 40, &Begin{
			Place: at, Flags: UploadResume | UploadSparse, Verify: VerifyFull, Fsync: FsyncOff, Size: 3 << 20, Chunk: 1 << 20,
			Source: Identity{3 << 20, 1700000000123456789, 1700000000123456790, 99}, Origin: "m:/big",
		}},
		{"BEGIN/from a pipe", 41, &Begin{Place: at, Size: SizeUnknown, Chunk: 1 << 20}},
		{"BEGUN", 40, &Begun{Flags: BegunUnchanged | BegunJournal, Window: 96 << 20, Expiry: 604800, Chunks: 2}},
		{"HAVE", 40, &Have{First: 0, Values: []Value{fill32(7), fill32(8)}}},
		{"RECHECK", 40, &Recheck{}},
		{"BAD", 40, &Bad{End: RecheckDone, Indexes: []uint64{1}}},
		{"ACK", 40, &Ack{Ranges: []Range{{0, 2}, {5, 1}}}},
		{"ACK/volatile", 41, &Ack{Volatile: true, Ranges: []Range{{0, 1}}}},
		{"COMMIT", 40, &Commit{Size: 3 << 20, Sent: 2, Values: fill32(9), HasDigest: true, Digest: fill32(10), Attr: Attr{Set: AttrPerm | AttrMtime, Perm: 0o644, Mtime: 7}}},
		{"COMMITTED", 40, &Committed{Verified: VerifiedFull, Volatile: true}},
		{"SUSPEND", 40, &Suspend{}},
		{"ABORT", 40, &Abort{}},
	}
}
