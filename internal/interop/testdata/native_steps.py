"""What the interop tests do with native_client.py: PHASE ROAD and the rest as
JSON on the command line. Sections in comments are those of docs/protocol.md."""
import hashlib
import json
import os
import socket
import sys
import time

import paramiko
from native_blake3 import blake3, merge
from native_client import ZEROS, Failed, Key, Lost, Session, SSHLink, StdioLink, TLSLink, frame, raw_frame

CHUNK, PIECE, LEAF = 1 << 20, 1 << 18, 1024
DATA_LAST, DATA_VALUE, DATA_EOF = 0x01, 0x02, 0x04  # section 13, as all flags below
MTIME = 1_600_000_000_123_456_789

phase, road, settings = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
local = settings["dir"]  # the directory that is worked in, as this machine calls it


def connect():
    """Begins a session on the road that is tested."""
    if road == "tcp":
        session = Session(TLSLink(settings["host"], settings["tcp_port"]))
        known = paramiko.HostKeys(settings["known_hosts"]).lookup("[%s]:%d" % (settings["host"], settings["tcp_port"]))
        session.check_host([key.asbytes() for key in known.values()])
        right, wrong = Key(settings["identity"]), Key(settings["wrong"])
        assert session.offer(settings["user"], [wrong, right]) == 1 << 1
        assert session.offer("nobody-of-that-name", [wrong, right]) == 0
        refuses("AUTH", session.prove, settings["user"], wrong)
        session.prove(settings["user"], right)
        assert session.limits["binding"] == 0
        return session
    if road == "ssh":
        transport = paramiko.Transport(socket.create_connection((settings["host"], settings["ssh_port"])))
        transport.connect(username=settings["user"], pkey=paramiko.Ed25519Key(filename=settings["identity"]))
        session = Session(SSHLink(transport), bound=lambda: (SSHLink(transport), transport.session_id))
        binding = 2
    else:
        command = [settings["transferd"], "stdio"]
        shell = ["sh", "-c", "echo a shell says something before; exec \"$@\"", "sh"]
        session = Session(StdioLink(shell + command), noise=65536,
                          bound=lambda: (StdioLink(shell + command + ["--join"]), None))
        binding = 3
    session.welcome()
    assert session.limits["binding"] == binding
    return session


def refuses(code, what, /, *args, **values):
    """Checks that what fails with that code."""
    try:
        what(*args, **values)
    except (Failed, Lost) as err:
        assert err.code == code, (err, code)
        return
    raise AssertionError("%s was not refused" % (args,))


def content(name, size):
    """Is what the file with that name has, the same in every phase."""
    return hashlib.shake_128(name.encode()).digest(size)


class File:
    """A file of several chunks: section 1."""

    def __init__(self, name, size, data=None):
        self.data = content(name, size) if data is None else data
        size = len(self.data)
        self.chunks = [self.data[i:i + CHUNK] for i in range(0, size, CHUNK)] or [b""]
        several = len(self.chunks) > 1
        self.values = [blake3(c, i * CHUNK // LEAF, not several) for i, c in enumerate(self.chunks)]
        self.digest = merge(self.values, True) if several else self.values[0]
        assert self.digest == blake3(self.data)
        self.path = None

    def begin(self, session, path, **change):
        """Sends BEGIN (section 9) and returns the id of the upload."""
        self.path = path
        fields = {"dir": 0, "path": path, "flags": 0x01, "verify": 0, "fsync": 0, "size": len(self.data),
                  "chunk": CHUNK, "source": {"size": len(self.data), "mtime": MTIME, "ctime": MTIME + 1, "inode": 4711},
                  "origin": "machine:/some/where"}
        fields.update(change)
        return session.begin("BEGIN", **fields)

    def send(self, stream, id, index, pieces=None):
        """Sends a chunk in several DATA, or only its first pieces."""
        data = self.chunks[index]
        starts = list(range(0, len(data), PIECE)) or [0]
        for at in starts[:pieces]:
            piece, last = data[at:at + PIECE], at == starts[-1]
            stream.send(frame("DATA", id, offset=index * CHUNK + at, length=len(piece), encoding=0,
                              flags=DATA_LAST | DATA_VALUE if last else 0,
                              value=self.values[index] if last else ZEROS, payload=piece))

    def commit(self, session, id, sent, **change):
        fields = {"size": len(self.data), "sent": sent, "values": hashlib.sha256(b"".join(self.values)).digest(),
                  "has_digest": 1, "digest": self.digest, "attr": {"perm": 0o640, "mtime": MTIME}}
        fields.update(change)
        session.control.send(frame("COMMIT", id, **fields))


def acknowledged(session, id, wanted):
    """Waits until the chunks wanted are durable: section 9, durability."""
    have = set()
    while have < wanted:
        _, ack, _ = session.control.next(id, "ACK")
        assert ack["volatile"] == 0
        for r in ack["ranges"]:
            have |= set(range(r["first"], r["first"] + r["count"]))
    assert have == wanted


def committed(session, id):
    name = None
    while name != "COMMITTED":
        name, values, _ = session.control.next(id, "ACK", "COMMITTED")
    assert values == {"verified": 0, "volatile": 0}, values


def same(path, data):
    with open(os.path.join(local, path), "rb") as f:
        assert f.read() == data, path


def put(session, path, data):
    return session.begin("PUT", dir=0, path=path, flags=0, verify=0, fsync=0, origin="machine:/" + path,
                         attr={"perm": 0o600, "mtime": MTIME}, size=len(data), digest=blake3(data), encoding=0,
                         data=data)


def names(session, base):
    """Makes a tree without waiting for answers, and looks at it: sections 7, 8 and 10."""
    ask = session.ask
    tree, small = base + "tree", content("small", 3000)
    made = [session.begin("MKDIR", dir=0, path=p, perm=0o750) for p in (tree, tree + "/a", tree + "/a/b")]
    files = [put(session, tree + "/a/b/%d" % i, small[i:]) for i in range(20)]
    nothing = put(session, tree + "/nothing", b"")
    for id in made:
        session.control.next(id, "OK")
    for id in files + [nothing]:
        assert session.control.next(id, "COMMITTED")[1]["volatile"] == 0
    for i in range(20):
        same("tree/a/b/%d" % i, small[i:])
    same("tree/nothing", b"")
    ask("SYMLINK", "OK", dir=0, path=tree + "/link", target="a/b/3")
    refuses("EXISTS", ask, "MKDIR", "OK", dir=0, path=tree, perm=0o755)

    entry = ask("STAT", "FOUND", dir=0, path=tree + "/link", flags=0)["entry"]
    assert (entry["kind"], entry["link"]) == (3, b"a/b/3")
    entry = ask("STAT", "FOUND", dir=0, path=tree + "/link", flags=0x01)["entry"]
    assert (entry["kind"], entry["size"], entry["perm"], entry["mtime"]) == (1, 2997, 0o600, MTIME), entry
    refuses("NOT_FOUND", ask, "STAT", "FOUND", dir=0, path=base + "missing", flags=0)
    refuses("BAD_PATH", ask, "STAT", "FOUND", dir=0, path=base + "../x", flags=0)

    # One LISTED at a time, as MORE grants them.
    id = session.begin("LIST", dir=0, path=tree, flags=0x04, frames=1)
    seen, last = [], 0
    while not last:
        _, listed, _ = session.control.next(id, "LISTED")
        last = listed["last"]
        assert all(n["code"] == 0 for n in listed["names"])
        seen += [n["path"].decode() for n in listed["names"]]
        if not last:
            session.control.send(frame("MORE", id, frames=1))
    assert sorted(seen) == sorted(["a", "a/b", "link", "nothing"] + ["a/b/%d" % i for i in range(20)]), seen
    assert seen.index("a") < seen.index("a/b") < min(seen.index("a/b/%d" % i) for i in range(20))

    got = ask("GET", "GOT", dir=0, path=tree + "/a/b/3", flags=0, limit=10000)
    assert (got["data"], got["digest"], got["encoding"]) == (small[3:], blake3(small[3:]), 0)
    refuses("TOO_LARGE", ask, "GET", "GOT", dir=0, path=tree + "/a/b/3", flags=0, limit=100)
    assert ask("MEASURE", "MEASURED", dir=0, path=tree)["total"] > 0

    def rename(a, b, mode):
        return ask("RENAME", "OK", from_dir=0, from_path=tree + a, to_dir=0, to_path=tree + b, mode=mode)

    refuses("EXISTS", rename, "/a/b/1", "/a/b/2", 1)
    rename("/a/b/1", "/a/b/2", 0)
    rename("/a/b/2", "/free", 1)
    same("tree/free", small[1:])
    ask("LINK", "OK", from_dir=0, from_path=tree + "/free", to_dir=0, to_path=tree + "/second")
    ask("SET_ATTR", "OK", dir=0, path=tree + "/second", attr={"perm": 0o644})
    assert os.stat(os.path.join(local, "tree/free")).st_mode & 0o7777 == 0o644
    refuses("NOT_EMPTY", ask, "REMOVE", "OK", dir=0, path=tree + "/a")
    ask("REMOVE", "OK", dir=0, path=tree + "/second")
    assert not os.path.lexists(os.path.join(local, "tree/second"))


def uploads(session, base, streams):
    """Sends a file on all streams, and reads it again: sections 8 and 9."""
    ask, path = session.ask, base + "large"
    file = File("large", 3 * CHUNK + 12345)
    id = file.begin(session, path)
    _, begun, _ = session.control.next(id, "BEGUN")
    assert begun["chunks"] == 0 and begun["flags"] & 0x02, begun
    for i in reversed(range(4)):
        file.send(streams[i % len(streams)], id, i)
    file.commit(session, id, 4)  # it may overtake what other streams carry
    committed(session, id)
    same("large", file.data)
    info = os.stat(os.path.join(local, "large"))
    assert (info.st_mode & 0o7777, info.st_mtime_ns) == (0o640, MTIME)

    # Without waiting, as section 16 does; and what must not be published.
    id = file.begin(session, path + "2", flags=0)
    for i in range(4):
        file.send(session.control, id, i)
    file.commit(session, id, 4)
    session.control.next(id, "BEGUN")
    committed(session, id)
    id = file.begin(session, path + "3")
    session.control.next(id, "BEGUN")
    refuses("INTEGRITY", wrong_value, session, id, file)
    assert not os.path.lexists(os.path.join(local, "large3"))

    assert ask("SUM", "SUMMED", dir=0, path=path)["digest"] == file.digest
    ask("OPEN", "FOUND", dir=0, path=path, handle=7, flags=0x01, perm=0)
    assert ask("HASH", "HASHED", handle=7, chunk=CHUNK, first=0, count=100)["values"] == file.values
    assert ask("STAT_FILE", "FOUND", handle=7)["entry"]["size"] == len(file.data)
    extents = ask("MAP", "MAPPED", handle=7, offset=0)
    assert extents["last"] == 1 and extents["extents"][0]["offset"] == 0
    for i, stream in enumerate(streams * 2):
        i %= 4
        read(session, stream, file, i)
    session.control.next(session.begin("CLOSE", handle=7), "OK")
    refuses("CLOSED", ask, "STAT_FILE", "FOUND", handle=7)

    # A handle that is used before it is known to be open.
    ids = [session.begin("OPEN", dir=0, path=base + "written", handle=9, flags=0x07, perm=0o600),
           session.begin("WRITE", handle=9, offset=5, data=b"world"),
           session.begin("WRITE", handle=9, offset=0, data=b"hello"), session.begin("SYNC", handle=9)]
    for id, answer in zip(ids, ["FOUND", "OK", "OK", "OK"]):
        session.control.next(id, answer)
    ask("CLOSE", "OK", handle=9)
    same("written", b"helloworld")


def shapes(session, base):
    """Sends files that are not simply several chunks: sections 1 and 9."""
    control = session.control
    for size in (0, 1, CHUNK):
        file = File("one chunk", size)
        id = file.begin(session, base + "one chunk")
        file.send(control, id, 0)
        file.commit(session, id, 1)
        control.next(id, "BEGUN")
        committed(session, id)
        same("one chunk", file.data)

    # Chunk 1 is a hole, and so is all of chunk 2 but its first piece.
    data = content("sparse", CHUNK) + bytes(CHUNK) + content("end", PIECE)
    file = File("sparse", 0, data + bytes(3 * CHUNK - len(data)))
    id = file.begin(session, base + "sparse", flags=0x01 | 0x02)
    file.send(control, id, 0)
    file.send(control, id, 2, pieces=1)
    control.send(frame("DATA", id, offset=2 * CHUNK + PIECE, length=CHUNK - PIECE, encoding=2,
                       flags=DATA_LAST | DATA_VALUE, value=file.values[2], payload=b""))
    told = [file.values[0], ZEROS, file.values[2]]
    file.commit(session, id, 2, values=hashlib.sha256(b"".join(told)).digest())
    control.next(id, "BEGUN")
    committed(session, id)
    same("sparse", file.data)
    session.ask("OPEN", "FOUND", dir=0, path=base + "sparse", handle=7, flags=0x01, perm=0)
    read(session, control, file, 1, holes=True)
    read(session, control, file, 2, holes=True)
    session.ask("CLOSE", "OK", handle=7)

    # Of unknown size: what has only one chunk has the digest as its value.
    for size in (5, CHUNK, 2 * CHUNK + 5):
        file = File("unknown", size)
        id = file.begin(session, base + "unknown", flags=0, size=-1)
        for i in range(len(file.chunks)):
            file.send(control, id, i)
        file.commit(session, id, len(file.chunks))
        control.next(id, "BEGUN")
        committed(session, id)
        same("unknown", file.data)


def lost_stream(session, base, stream):
    """Loses a stream in the middle of an upload, and goes on without it: section 9."""
    file = File("lost", 3 * CHUNK)
    id = file.begin(session, base + "lost")
    session.control.next(id, "BEGUN")
    file.send(stream, id, 0)
    file.send(stream, id, 1, pieces=2)
    stream.link.cut()
    for i in range(3):  # chunk 0 may count already, and counts once
        file.send(session.control, id, i)
    file.commit(session, id, 3)
    committed(session, id)
    same("lost", file.data)


def wrong_value(session, id, file):
    session.control.send(frame("DATA", id, offset=0, length=5, encoding=0, flags=0, value=ZEROS, payload=b"wrong"))
    session.control.send(frame("DATA", id, offset=5, length=CHUNK - 5, encoding=2, flags=DATA_LAST | DATA_VALUE,
                               value=file.values[0], payload=b""))
    session.control.next(id, "ACK")


def read(session, stream, file, index, holes=False):
    """Reads a chunk with its value: section 8."""
    at = index * CHUNK
    length = len(file.chunks[index])
    id = session.begin("READ", stream, handle=7, offset=at, length=length, flags=0x06 if holes else 0x04, chunk=CHUNK)
    data, flags = b"", 0
    while not flags & DATA_LAST:
        _, got, _ = stream.next(id, "DATA")
        flags = got["flags"]
        assert got["offset"] == at + len(data)
        if got["encoding"] == 2:
            assert holes and got["payload"] == b""
            data += bytes(got["length"])
            continue
        assert (got["length"], got["encoding"]) == (len(got["payload"]), 0)
        data += got["payload"]
    assert data == file.chunks[index] and got["value"] == file.values[index] and flags & DATA_VALUE
    assert bool(flags & DATA_EOF) == (index == len(file.chunks) - 1)


def manners(session):
    """Says what a server may not know, and PING: sections 4 and 7."""
    control = session.control
    for unknown in (0x7F, 0x00, 0x6A):
        session.ids += 1
        control.send(raw_frame(unknown, session.ids, b"what is this?"))
        refuses("UNSUPPORTED", control.next, session.ids, "nothing")
    refuses("UNSUPPORTED", session.ask, "EXTEND", "EXTENDED", name="nonsense@example.org", body=b"")
    control.send(raw_frame(0x80, session.ids + 1, b"to be skipped"))
    for stream in session.streams:
        if stream.ended is None:
            stream.send(frame("PING", nonce=0x0123456789ABCDEF))
            assert stream.next(0, "PONG")[1]["nonce"] == 0x0123456789ABCDEF
    assert not control.frames[session.ids + 1]
    control.send(frame("CANCEL", 10**6))  # crossed the last answer: section 7
    control.send(frame("COMMIT", 10**6, size=0, sent=0, values=ZEROS, has_digest=0, digest=ZEROS, attr={}))


def resolve(session):
    """Returns what stands before names in the directory that is worked in."""
    path = session.ask("RESOLVE", "RESOLVED", text=settings["remote"])["path"].decode()
    assert session.ask("STAT", "FOUND", dir=0, path=path, flags=0)["entry"]["kind"] == 2
    return "" if path == "." else path + "/"  # section 4: the shortest form


def all_steps():
    session = connect()
    base = resolve(session)
    streams = [session.control]
    if session.limits["tcp_port"]:
        streams.append(session.join(TLSLink(settings["host"], session.limits["tcp_port"])))
    if session.limits["binding"]:
        streams.append(session.join())
        refuses("JOIN", session.join, spoil=True)
        refuses("JOIN", session.join, session=b"no such session!"[:16])
    assert len(streams) > 1
    manners(session)
    names(session, base)
    uploads(session, base, streams)
    shapes(session, base)
    if road == "tcp":
        lost_stream(session, base, session.join(TLSLink(settings["host"], session.limits["tcp_port"])))
    elif road == "stdio":
        lost_stream(session, base, session.join())
    assert all(stream.ended is None for stream in streams)
    session.control.goodbye()
    deadline = time.monotonic() + 60  # its end ends the others: section 7
    while any(stream.ended is None for stream in streams[1:]):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def broken():
    """Uploads until two chunks are durable, says so, and waits for the server's death."""
    session = connect()
    file = File("broken", 4 * CHUNK + 99)
    id = file.begin(session, resolve(session) + "broken")
    session.control.next(id, "BEGUN")
    file.send(session.control, id, 0)
    file.send(session.control, id, 3)
    acknowledged(session, id, {0, 3})
    file.send(session.control, id, 1, pieces=2)
    print("durable", flush=True)
    if road == "stdio":
        session.control.link.cut()
    try:
        session.control.next(id, "nothing")
    except Lost:
        return
    raise AssertionError("the server lives")


def resumed():
    """Continues what broken left: section 9, resumption."""
    session = connect()
    path = resolve(session) + "broken"
    file = File("broken", 4 * CHUNK + 99)
    refuses("NOT_FOUND", session.ask, "STAT", "FOUND", dir=0, path=path, flags=0)
    id = file.begin(session, path)
    begun, have = have_of(session, id)
    assert begun["flags"] == 0x03 and have == {0: file.values[0], 3: file.values[3]}, (begun, sorted(have))
    session.control.send(frame("RECHECK", id))
    bad = []
    while True:
        _, told, _ = session.control.next(id, "BAD")
        bad += told["indexes"]
        if told["end"]:
            break
    assert (told["end"], bad) == (1, []), (told, bad)
    file.send(session.control, id, 1)
    acknowledged(session, id, {1})

    # A network that dies instead; another source is not "unchanged".
    session.control.link.cut()
    session = connect()
    changed = {"size": len(file.data), "mtime": MTIME + 7, "ctime": MTIME + 7, "inode": 4711}
    id = file.begin(session, path, source=changed)
    begun, have = have_of(session, id)
    assert begun["flags"] == 0x02 and sorted(have) == [0, 1, 3], (begun, sorted(have))
    assert all(have[i] == file.values[i] for i in have)

    # The same run once more takes over, and another process waits for this one's end.
    other = connect()
    again = file.begin(other, path)
    if road == "stdio":
        session.control.link.cut()
    else:
        refuses("TAKEN_OVER", session.control.next, id, "nothing")
        session.control.goodbye()
    _, have = have_of(other, again)
    assert set(have) >= {0, 1, 3}, sorted(have)

    other.control.send(frame("SUSPEND", again))
    other.control.next(again, "OK")
    id = file.begin(other, path)
    _, have = have_of(other, id)
    sent = [i for i in range(5) if i not in have]
    for i in sent:
        file.send(other.control, id, i)
    file.commit(other, id, len(sent))
    committed(other, id)
    same("broken", file.data)
    other.control.goodbye()


def have_of(session, id):
    """Returns BEGUN, and the values of HAVE by the index of their chunk."""
    _, begun, _ = session.control.next(id, "BEGUN")
    have, told = {}, 0
    while told < begun["chunks"]:
        _, more, _ = session.control.next(id, "HAVE")
        told += len(more["values"])
        have.update(enumerate(more["values"], more["first"]))
    assert len(have) == begun["chunks"]
    return begun, have


{"all": all_steps, "broken": broken, "resumed": resumed}[phase]()
