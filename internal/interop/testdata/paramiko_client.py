"""Drives paramiko for the interop tests: HOST PORT USER KEY KNOWN_HOSTS VERB ARGS..."""
import os
import random
import sys

import paramiko

host, port, user, key, known_hosts, verb, *args = sys.argv[1:]
client = paramiko.SSHClient()
client.load_host_keys(known_hosts)
client.set_missing_host_key_policy(paramiko.RejectPolicy())
client.connect(host, int(port), user, key_filename=key, allow_agent=False, look_for_keys=False)
sftp = client.open_sftp()


def put_dir(local, remote):
    sftp.mkdir(remote)
    for name in sorted(os.listdir(local)):
        sftp.put(os.path.join(local, name), remote + "/" + name)


def scatter(remote, local, seed):
    """Writes at random offsets, appends, truncates and extends, the same on
    both sides, with pipelined (unacknowledged) writes."""
    rng = random.Random(int(seed))
    with open(local, "w+b") as mine, sftp.open(remote, "w+b") as theirs:
        theirs.set_pipelined(True)
        for _ in range(400):
            offset = rng.randrange(0, 8 << 20)
            data = rng.randbytes(rng.randrange(1, 60000))
            for f in (mine, theirs):
                f.seek(offset)
                f.write(data)
        theirs.flush()
        size = 9 << 20
        mine.truncate(size)
        theirs.truncate(size)
    with open(local, "r+b") as mine, sftp.open(remote, "r+b") as theirs:
        theirs.set_pipelined(True)
        for _ in range(100):
            offset = rng.randrange(0, size)
            data = rng.randbytes(rng.randrange(1, 4000))
            for f in (mine, theirs):
                f.seek(offset)
                f.write(data)
    with open(local, "ab") as mine, sftp.open(remote, "ab") as theirs:
        for _ in range(50):
            data = rng.randbytes(1000)
            mine.write(data)
            theirs.write(data)


if verb == "put":
    sftp.put(*args)
elif verb == "get":
    sftp.get(*args)
elif verb == "putdir":
    put_dir(*args)
elif verb == "list":
    print("\n".join(sftp.listdir(args[0])))
elif verb == "rename":
    sftp.posix_rename(*args)
elif verb == "remove":
    sftp.remove(args[0])
elif verb == "scatter":
    scatter(*args)
else:
    sys.exit("unknown verb " + verb)
sftp.close()
client.close()
