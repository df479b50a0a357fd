"""BLAKE3 in Python alone, for the tests of the native protocol.

All leaves (and all parents of one level) are computed side by side: a word of
the algorithm is one long number here with a lane of 64 bits for each of them,
of which the upper 32 take what an addition carries.
"""
import array
import sys

IV = [0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19]
PERMUTATION = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8]
COLUMNS = [(0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15)]
DIAGONALS = [(0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)]
START, END, PARENT, ROOT = 1, 2, 4, 8
LEAF = 1024


def lanes(words):
    """Makes one long number of numbers below 2**32."""
    return int.from_bytes(array.array("Q", words).tobytes(), sys.byteorder)


def words(long, n):
    """Is the inverse of lanes."""
    out = array.array("Q")
    out.frombytes(long.to_bytes(8 * n, sys.byteorder))
    return out


def compress(n, cv, block, counters, length, flags):
    """Compresses n blocks; cv are 8 words, block 16, each with n lanes."""
    ones = lanes([1] * n)
    mask = ones * 0xFFFFFFFF
    v = cv + [ones * w for w in IV[:4]]
    v += [lanes(c & 0xFFFFFFFF for c in counters), lanes(c >> 32 for c in counters), ones * length, ones * flags]

    def turn(x, r):
        return (x >> r | x << 32 - r) & mask

    for _ in range(7):
        for i, (a, b, c, d) in enumerate(COLUMNS + DIAGONALS):
            v[a] = v[a] + v[b] + block[2 * i] & mask
            v[d] = turn(v[d] ^ v[a], 16)
            v[c] = v[c] + v[d] & mask
            v[b] = turn(v[b] ^ v[c], 12)
            v[a] = v[a] + v[b] + block[2 * i + 1] & mask
            v[d] = turn(v[d] ^ v[a], 8)
            v[c] = v[c] + v[d] & mask
            v[b] = turn(v[b] ^ v[c], 7)
        block = [block[p] for p in PERMUTATION]
    return [v[i] ^ v[i + 8] for i in range(8)]


def leaves(data, n, first, root):
    """Hashes n leaves of one length, data, that are counted from first."""
    size = len(data) // n
    counters = range(first, first + n)
    cv = [lanes([w] * n) for w in IV]
    for begin in range(0, max(size, 1), 64):
        length = min(64, size - begin)
        flags = (START if begin == 0 else 0) | (END | root if begin + 64 >= size else 0)
        if n == 1:
            text = array.array("I", data[begin:begin + length].ljust(64, b"\0"))
            block = [int(w) for w in text]
        else:
            text = array.array("I", data)
            block = [lanes(text[begin // 4 + i::size // 4]) for i in range(16)]
        cv = compress(n, cv, block, counters, length, flags)
    return unite(cv, n)


def unite(cv, n):
    """Makes n chaining values of 32 bytes of 8 words with n lanes."""
    columns = [words(w, n) for w in cv]
    return [array.array("I", row).tobytes() for row in zip(*columns)]


def merge(values, root):
    """Merges chaining values as the nodes of BLAKE3 do: neighbours make pairs,
    and one that is left alone goes up as it is."""
    while len(values) > 1:
        n = len(values) // 2
        text = array.array("I", b"".join(values[:2 * n]))
        block = [lanes(text[i::16]) for i in range(16)]
        flags = PARENT | (ROOT if root and len(values) == 2 else 0)
        up = compress(n, [lanes([w] * n) for w in IV], block, [0] * n, 64, flags)
        values = unite(up, n) + values[2 * n:]
    return values[0]


def blake3(data, first=0, root=True):
    """Returns the digest of data; without root the chaining value of a subtree
    whose first leaf has the number first."""
    n = max(len(data) - 1, 0) // LEAF  # whole leaves before the last
    alone = ROOT if root and n == 0 else 0
    values = leaves(data[:n * LEAF], n, first, 0) if n else []
    values += leaves(data[n * LEAF:], 1, first + n, alone)
    return merge(values, root)
