"""A client of the native protocol, written from docs/protocol.md alone.

Sections in comments are that document's. It shares nothing with the programs
that it is tested against but the document: messages, TLS, SSH signatures and
BLAKE3 are put together here from Debian's python3 and its packages
python3-paramiko, python3-cryptography and python3-openssl.
"""
import collections
import hashlib
import hmac
import os
import socket
import struct
import subprocess
import threading
import time

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from OpenSSL import SSL

PREFACE = bytes.fromhex("89 74 72 61 6e 73 66 65 72 2f 31 0d 0a")  # section 3
PING_AFTER, DEAD_AFTER, STDIO_NOISE = 5, 15, 65536  # section 14
ZEROS = bytes(32)

# The structures of sections 11 and 12, a name and a type for each field.
STRUCTS = {
    "entry": "kind:u8 size:offset perm:u32 mtime:i64 atime:i64 ctime:i64 uid:u32 gid:u32 owner:text group:text "
             "nlink:u64 device:u64 inode:u64 grain:u32 link:text xattrs:list/xattr",
    "listing": "path:path code:u16 entry:entry",
    "xattr": "name:text value:blob",
    "identity": "size:i64 mtime:i64 ctime:i64 inode:u64",
    "extent": "offset:offset length:offset",
    "range": "first:index count:index",
    "extension": "name:text value:blob",
}

# Of attr the byte "set" says which fields there are: section 11, flags of section 13.
ATTR = [(0x01, "size:offset"), (0x02, "perm:u32"), (0x04, "mtime:i64"), (0x08, "atime:i64"),
        (0x10, "uid:u32 gid:u32"), (0x20, "xattrs:list/xattr")]

# The messages of sections 5 to 9.
MESSAGES = {
    "HELLO": (0x01, "min_version:u16 max_version:u16 nonce:bytes32 max_data:u32 software:text algorithms:list/text "
                    "extensions:list/extension"),
    "SERVER_HELLO": (0x02, "version:u16 nonce:bytes32 max_data:u32 software:text extensions:list/extension"),
    "HOST_PROOF": (0x03, "key:blob signature:blob"),
    "OFFER": (0x04, "user:text keys:list/blob"),
    "OFFERED": (0x05, "keys:u32"),
    "PROVE": (0x06, "user:text key:blob signature:blob"),
    "WELCOME": (0x07, "session:bytes16 secret:bytes32 tls_key:bytes32 tcp_port:u16 binding:u8 flags:u8 user:text "
                      "home:path streams:u32 operations:u32 handles:u32 inline:u32 window:u64"),
    "JOIN": (0x08, "session:bytes16 stream:u32 mac:bytes32"),
    "JOINED": (0x09, "mac:bytes32"),
    "PING": (0x10, "nonce:u64"),
    "PONG": (0x11, "nonce:u64"),
    "GOODBYE": (0x12, "code:u16 message:text"),
    "FAIL": (0x13, "code:u16 message:text"),
    "OK": (0x14, ""),
    "CANCEL": (0x15, ""),
    "MORE": (0x16, "frames:u32"),
    "EXTEND": (0x17, "name:text body:rest"),
    "EXTENDED": (0x18, "body:rest"),
    "STAT": (0x20, "dir:u32 path:path flags:u8"),
    "FOUND": (0x21, "entry:entry"),
    "LIST": (0x22, "dir:u32 path:path flags:u8 frames:u32"),
    "LISTED": (0x23, "last:u8 names:list/listing"),
    "RESOLVE": (0x24, "text:text"),
    "RESOLVED": (0x25, "path:path"),
    "MEASURE": (0x26, "dir:u32 path:path"),
    "MEASURED": (0x27, "block_size:u64 total:u64 free:u64 available:u64 files:u64 files_free:u64 "
                       "files_available:u64 filesystem:u64 max_name:u64 flags:u8"),
    "SUM": (0x28, "dir:u32 path:path"),
    "SUMMED": (0x29, "digest:bytes32"),
    "MKDIR": (0x30, "dir:u32 path:path perm:u32"),
    "SYMLINK": (0x31, "dir:u32 path:path target:text"),
    "LINK": (0x32, "from_dir:u32 from_path:path to_dir:u32 to_path:path"),
    "RENAME": (0x33, "from_dir:u32 from_path:path to_dir:u32 to_path:path mode:u8"),
    "REMOVE": (0x34, "dir:u32 path:path"),
    "SET_ATTR": (0x35, "dir:u32 path:path attr:attr"),
    "OPEN_DIR": (0x40, "dir:u32 path:path handle:u32"),
    "OPEN": (0x41, "dir:u32 path:path handle:u32 flags:u8 perm:u32"),
    "CLOSE": (0x42, "handle:u32"),
    "STAT_FILE": (0x43, "handle:u32"),
    "SET_ATTR_FILE": (0x44, "handle:u32 attr:attr"),
    "SYNC": (0x45, "handle:u32"),
    "READ": (0x46, "handle:u32 offset:offset length:u32 flags:u8 chunk:u32"),
    "WRITE": (0x47, "handle:u32 offset:offset data:rest"),
    "DATA": (0x48, "offset:offset length:u32 encoding:u8 flags:u8 value:bytes32 payload:rest"),
    "MAP": (0x49, "handle:u32 offset:offset"),
    "MAPPED": (0x4A, "last:u8 extents:list/extent"),
    "HASH": (0x4B, "handle:u32 chunk:u32 first:index count:u32"),
    "HASHED": (0x4C, "values:list/bytes32"),
    "GET": (0x50, "dir:u32 path:path flags:u8 limit:u32"),
    "GOT": (0x51, "entry:entry digest:bytes32 encoding:u8 data:rest"),
    "PUT": (0x52, "dir:u32 path:path flags:u8 verify:u8 fsync:u8 origin:text attr:attr size:offset digest:bytes32 "
                  "encoding:u8 data:rest"),
    "BEGIN": (0x60, "dir:u32 path:path flags:u8 verify:u8 fsync:u8 size:i64 chunk:u32 source:identity origin:text"),
    "BEGUN": (0x61, "flags:u8 window:u64 expiry:u32 chunks:index"),
    "HAVE": (0x62, "first:index values:list/bytes32"),
    "RECHECK": (0x63, ""),
    "BAD": (0x64, "end:u8 indexes:list/index"),
    "ACK": (0x65, "volatile:u8 ranges:list/range"),
    "COMMIT": (0x66, "size:offset sent:index values:bytes32 has_digest:u8 digest:bytes32 attr:attr"),
    "COMMITTED": (0x67, "verified:u8 volatile:u8"),
    "SUSPEND": (0x68, ""),
    "ABORT": (0x69, ""),
}
NAMES = {number: name for name, (number, _) in MESSAGES.items()}

# Section 13.
CODES = {
    1: "FAILURE", 2: "UNSUPPORTED", 3: "BAD_MESSAGE", 4: "TOO_LARGE", 5: "BAD_STATE", 6: "LIMIT", 7: "CANCELLED",
    8: "SHUTDOWN", 9: "IDLE", 10: "VERSION", 11: "DONE", 16: "AUTH", 17: "MORE_AUTH", 18: "NO_HOST_KEY", 19: "JOIN",
    20: "RESTRICTED", 32: "NOT_FOUND", 33: "EXISTS", 34: "PERMISSION", 35: "NOT_REGULAR", 36: "NOT_DIR", 37: "IS_DIR",
    38: "NOT_EMPTY", 39: "ESCAPE", 40: "NO_SPACE", 41: "QUOTA", 42: "BAD_PATH", 43: "CLOSED", 64: "TAKEN_OVER",
    65: "BUSY", 66: "SOURCE_CHANGED", 67: "INTEGRITY", 68: "WRONG_OFFSET", 69: "WINDOW",
}
DONE = 11

NUMBERS = {"u8": ">B", "u16": ">H", "u32": ">I", "u64": ">Q", "i64": ">q", "offset": ">Q", "index": ">Q"}
FIXED = {"bytes16": 16, "bytes32": 32}


class Failed(Exception):
    """A FAIL from the server."""

    def __init__(self, code, message):
        super().__init__("%s: %s" % (code, message))
        self.code = code


class Lost(Exception):
    """The stream has ended; code is that of the server's GOODBYE, or None."""

    def __init__(self, why, code=None):
        super().__init__(why)
        self.code = code


def fields_of(spec):
    return [field.split(":") for field in spec.split()]


def encode(kind, value):
    """Encodes a value of one of the types of section 4."""
    if kind in NUMBERS:
        return struct.pack(NUMBERS[kind], value)
    if kind in FIXED:
        assert len(value) == FIXED[kind]
        return value
    if kind in ("text", "path"):
        raw = value if isinstance(value, bytes) else value.encode()
        return struct.pack(">H", len(raw)) + raw
    if kind == "blob":
        return struct.pack(">I", len(value)) + value
    if kind == "rest":
        return bytes(value)
    if kind.startswith("list/"):
        return struct.pack(">I", len(value)) + b"".join(encode(kind[5:], v) for v in value)
    if kind == "attr":
        there = [(bit, spec) for bit, spec in ATTR if fields_of(spec)[0][0] in value]
        return bytes([sum(bit for bit, _ in there)]) + b"".join(encode_fields(spec, value) for _, spec in there)
    return encode_fields(STRUCTS[kind], value)


def encode_fields(spec, values):
    return b"".join(encode(kind, values[name]) for name, kind in fields_of(spec))


class Body:
    """Decodes a body; what is too short or too long is an error (section 4)."""

    def __init__(self, raw):
        self.raw, self.at = raw, 0

    def take(self, n):
        if n > len(self.raw) - self.at:
            raise ValueError("a body ends too early")
        self.at += n
        return self.raw[self.at - n:self.at]

    def decode(self, kind):
        if kind in NUMBERS:
            fmt = NUMBERS[kind]
            return struct.unpack(fmt, self.take(struct.calcsize(fmt)))[0]
        if kind in FIXED:
            return self.take(FIXED[kind])
        if kind in ("text", "path"):
            return self.take(self.decode("u16"))
        if kind == "blob":
            return self.take(self.decode("u32"))
        if kind == "rest":
            return self.take(len(self.raw) - self.at)
        if kind.startswith("list/"):
            return [self.decode(kind[5:]) for _ in range(self.decode("u32"))]
        return self.fields(STRUCTS[kind])  # attr never comes from a server

    def fields(self, spec):
        return {name: self.decode(kind) for name, kind in fields_of(spec)}

    def end(self):
        if self.at != len(self.raw):
            raise ValueError("a body is too long")


def frame(name, id=0, /, **values):
    """Makes a frame (section 4) of the message with that name."""
    number, spec = MESSAGES[name]
    return raw_frame(number, id, encode_fields(spec, values))


def raw_frame(number, id, body):
    return struct.pack(">IBQ", len(body), number, id) + body


# Section 2: what carries bytes. A link has recv, which returns b"" at the end,
# send, close, and cut, which breaks it off as a dead network would.

class TLSLink:
    """A TLS connection. The library may not be used by two threads at once, so
    it only turns bytes into others here, under a lock that nothing waits for."""

    def __init__(self, host, port):
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        context.set_alpn_protos([b"transfer/1"])
        context.set_verify(SSL.VERIFY_NONE, lambda *_: True)
        self.socket = socket.create_connection((host, port))
        self.tls, self.lock, self.order = SSL.Connection(context, None), threading.Lock(), threading.Lock()
        self.tls.set_connect_state()
        while True:
            try:
                self.tls.do_handshake()
                break
            except SSL.WantReadError:
                self.flush()
                self.tls.bio_write(self.socket.recv(65536))
        self.flush()
        assert self.tls.get_alpn_proto_negotiated() == b"transfer/1"
        assert self.tls.get_protocol_version_name() == "TLSv1.3"

    def flush(self):
        out = b""
        try:
            while True:
                out += self.tls.bio_read(65536)
        except SSL.WantReadError:
            self.socket.sendall(out)

    def recv(self, n):
        while True:
            with self.lock:
                try:
                    return self.tls.recv(n)
                except SSL.ZeroReturnError:  # close_notify
                    return b""
                except SSL.WantReadError:
                    pass
            more = self.socket.recv(65536)
            if not more:
                raise ConnectionError("the connection was lost: it ended without close_notify")
            with self.lock:
                self.tls.bio_write(more)

    def send(self, data):
        with self.order:  # the bytes of TLS go out as they were made
            while data:
                with self.lock:
                    data = data[self.tls.send(data[:65536]):]
                    out = self.tls.bio_read(1 << 20)
                self.socket.sendall(out)

    def close(self):
        with self.lock, self.order:
            self.tls.shutdown()
            self.flush()
        self.cut()

    def cut(self):
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.close()

    def export(self, label):  # RFC 8446, section 7.5
        return self.tls.export_keying_material(label, 32, b"")

    def key_hash(self):
        key = self.tls.get_peer_certificate().to_cryptography().public_key()
        return hashlib.sha256(key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)).digest()


class SSHLink:
    """A channel with the subsystem "transfer"."""

    def __init__(self, transport):
        self.transport = transport
        self.channel = transport.open_session()
        self.channel.invoke_subsystem("transfer")
        self.recv, self.send, self.close = self.channel.recv, self.channel.sendall, self.channel.close

    def cut(self):
        self.transport.sock.close()
        self.transport.close()


class StdioLink:
    """A "transferd stdio" that was started here."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)

    def recv(self, n):
        return self.process.stdout.read(n)

    def send(self, data):
        while data:
            data = data[self.process.stdin.write(data):]

    def close(self):
        self.process.stdin.close()
        self.process.wait(60)

    def cut(self):
        self.process.kill()
        self.process.wait()


class Stream:
    """A stream of a session: sections 3, 4 and 7. A thread reads it all the
    time, whatever else is done; frames wait here for whoever asks for their id."""

    def __init__(self, link, noise=0):
        self.link, self.noise = link, noise
        self.buffer = b""
        self.frames = collections.defaultdict(collections.deque)
        self.ended = None
        self.greeted = threading.Event()  # the server's preface is there
        self.news, self.order = threading.Condition(), threading.Lock()
        self.sent = self.heard = time.monotonic()
        self.open = False
        self.send(PREFACE)
        threading.Thread(target=self.read, daemon=True).start()
        threading.Thread(target=self.live, daemon=True).start()

    def send(self, data):
        with self.order:
            self.link.send(data)
            self.sent = time.monotonic()

    def take(self, n):
        while len(self.buffer) < n:
            more = self.link.recv(1 << 18)
            if not more:
                raise Lost("the stream has ended")
            self.heard = time.monotonic()
            self.buffer += more
        taken, self.buffer = self.buffer[:n], self.buffer[n:]
        return taken

    def read(self):
        try:
            seen = self.take(len(PREFACE))
            while seen[-len(PREFACE):] != PREFACE:  # section 2, stdio: what a shell says
                if len(seen) >= self.noise + len(PREFACE):
                    raise Lost("no preface: %r" % seen[:40])
                seen += self.take(1)
            self.greeted.set()
            while True:
                length, number, id = struct.unpack(">IBQ", self.take(13))
                assert length <= (1 << 20) + 65536, length
                self.receive(number, id, self.take(length))
        except (Lost, OSError, ValueError, AssertionError, SSL.Error) as err:
            with self.news:
                self.ended = err if isinstance(err, Lost) else Lost(repr(err))
                self.news.notify_all()

    def receive(self, number, id, body):
        if number not in NAMES:
            assert number >= 0x80, number  # section 4: from there on they are skipped
            return
        decoder = Body(body)
        values = decoder.fields(MESSAGES[NAMES[number]][1])
        decoder.end()
        if NAMES[number] == "PING":
            self.send(frame("PONG", nonce=values["nonce"]))
        elif NAMES[number] == "GOODBYE":
            code = CODES[values["code"]]
            raise Lost("the server said GOODBYE: %s: %r" % (code, values["message"]), code)
        else:
            with self.news:
                self.frames[id].append((NAMES[number], values, body))
                self.news.notify_all()

    def live(self):
        """Sends PING where nothing else was, and gives up a dead stream: section 7."""
        while self.ended is None:
            time.sleep(1)
            now = time.monotonic()
            if self.open and now - self.heard > DEAD_AFTER:
                self.link.cut()
            elif self.open and now - self.sent > PING_AFTER - 2:
                try:
                    self.send(frame("PING", nonce=0))
                except (OSError, SSL.Error):
                    return

    def next(self, id, *wanted, timeout=60):
        """Returns the next message with id, which must be one of wanted, as its
        name, fields and body."""
        with self.news:
            self.news.wait_for(lambda: self.frames[id] or self.ended, timeout)
            if not self.frames[id]:
                raise self.ended or TimeoutError("waited for " + " or ".join(wanted))
            name, values, body = self.frames[id].popleft()
        if name == "FAIL":
            raise Failed(CODES[values["code"]], values["message"].decode())
        assert name in wanted, (name, wanted)
        return name, values, body

    def goodbye(self):
        self.send(frame("GOODBYE", code=DONE, message=""))
        self.link.close()


def ssh_string(raw):
    return struct.pack(">I", len(raw)) + raw


def ssh_strings(raw):
    body, out = Body(raw), []
    while body.at < len(raw):
        out.append(body.decode("blob"))
    return out


class Key:
    """An Ed25519 key of a user, from a file of ssh-keygen."""

    def __init__(self, path):
        with open(path, "rb") as f:
            self.private = serialization.load_ssh_private_key(f.read(), None)
        raw = self.private.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        self.public = ssh_string(b"ssh-ed25519") + ssh_string(raw)

    def sign(self, namespace, message):
        """Makes a binary SSHSIG (section 5)."""
        signature = ssh_string(b"ssh-ed25519") + ssh_string(self.private.sign(sshsig_data(namespace, message)))
        return b"SSHSIG" + struct.pack(">I", 1) + b"".join(
            map(ssh_string, [self.public, namespace, b"", b"sha512", signature]))


def sshsig_data(namespace, message):
    """What is signed in an SSHSIG: OpenSSH's PROTOCOL.sshsig."""
    return b"SSHSIG" + b"".join(map(ssh_string, [namespace, b"", b"sha512", hashlib.sha512(message).digest()]))


def verify_sshsig(key, namespace, message, signature):
    """Raises an exception unless signature is one of message by key, an Ed25519 one."""
    assert signature[:10] == b"SSHSIG" + struct.pack(">I", 1)
    inside, its_namespace, reserved, algorithm, proof = ssh_strings(signature[10:])
    assert (inside, its_namespace, reserved, algorithm) == (key, namespace, b"", b"sha512")
    (kind, raw), (its_kind, proof) = ssh_strings(key), ssh_strings(proof)
    assert kind == its_kind == b"ssh-ed25519"
    ed25519.Ed25519PublicKey.from_public_bytes(raw).verify(proof, sshsig_data(namespace, message))


class Session:
    """A session, whose control stream is streams[0]."""

    def __init__(self, link, noise=0, bound=None):
        """bound is called for a further stream that is not TLS; it returns its
        link and what it is bound to, where that is not of the two hellos."""
        self.bound, self.noise, self.ids = bound, noise, 0
        self.control = Stream(link, noise)
        self.streams = [self.control]
        hello = frame("HELLO", min_version=1, max_version=1, nonce=os.urandom(32), max_data=1 << 20,
                      software="native_client.py", algorithms=["ssh-ed25519"] if isinstance(link, TLSLink) else [],
                      extensions=[{"name": "nonsense@example.org", "value": b"to be ignored"}])
        self.control.send(hello)
        self.hello = hello[13:]
        _, values, self.server_hello = self.control.next(0, "SERVER_HELLO")
        assert values["version"] == 1
        self.max_data = values["max_data"]

    # Section 5.

    def check_host(self, trusted):
        """Verifies HOST_PROOF; trusted are the keys that known_hosts has."""
        _, proof, _ = self.control.next(0, "HOST_PROOF")
        self.host_key = proof["key"]
        assert self.host_key in trusted
        verify_sshsig(self.host_key, b"host-v1@transferd", self.message("host"), proof["signature"])

    def message(self, who, *more):
        exporter = self.control.link.export(b"EXPORTER-transfer-%s-v1" % who.encode())
        return b"".join(map(ssh_string, [
            b"transfer/1 " + who.encode(), self.hello, self.server_hello, exporter, self.host_key, *more]))

    def offer(self, user, keys):
        self.control.send(frame("OFFER", user=user, keys=[key.public for key in keys]))
        return self.control.next(0, "OFFERED")[1]["keys"]

    def prove(self, user, key):
        signature = key.sign(b"user-v1@transferd", self.message("user", user.encode(), key.public))
        self.control.send(frame("PROVE", user=user, key=key.public, signature=signature))
        self.welcome()

    def welcome(self):
        _, self.limits, _ = self.control.next(0, "WELCOME")
        self.control.open = True

    # Section 6.

    def join(self, link=None, spoil=False, session=None):
        """Adds a stream: a TLS link, or another one of the kind of the control
        stream. With spoil it is wrong, and so it is with another session."""
        session = session or self.limits["session"]
        if link is not None:
            assert link.key_hash() == self.limits["tls_key"]
            binding, bound = 1, link.export(b"EXPORTER-transfer-join-v1")
        else:
            link, bound = self.bound()
            binding = self.limits["binding"]
            if bound is None:
                bound = Body(self.hello[4:]).decode("bytes32") + Body(self.server_hello[2:]).decode("bytes32")
        number = len(self.streams)
        stream = Stream(link, self.noise)
        self.streams.append(stream)

        def mac(role):
            text = ssh_string(b"transfer/1 join") + role + bytes([binding]) + ssh_string(bound)
            text += session + struct.pack(">I", number)
            return hmac.digest(self.limits["secret"], text, "sha256")

        assert stream.greeted.wait(60)  # as a client may that skips what a shell says: section 3
        stream.send(frame("JOIN", session=session, stream=number, mac=mac(b"x" if spoil else b"c")))
        _, joined, _ = stream.next(0, "JOINED")
        assert hmac.compare_digest(joined["mac"], mac(b"s"))
        stream.open = True
        return stream

    # Section 7.

    def begin(self, name, stream=None, /, **values):
        """Sends a request with an id that was not used before, and returns it."""
        self.ids += 1
        (stream or self.control).send(frame(name, self.ids, **values))
        return self.ids

    def ask(self, name, answer, stream=None, /, **values):
        """Sends a request and returns the fields of its answer."""
        id = self.begin(name, stream, **values)
        return (stream or self.control).next(id, answer)[1]
