#!/bin/sh
# Shows the main job on a fresh machine that has only Go and a POSIX shell:
# builds both programs, makes a key, starts the daemon on loopback, copies real
# files there and back, kills the daemon half-way through a large one, resumes,
# and compares the digests. It touches nothing outside a temporary directory.
set -eu

top=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/transfer-demo.XXXXXX")
daemon=
cleanup() {
	[ -z "$daemon" ] || kill "$daemon" 2>/dev/null || :
	wait 2>/dev/null || :
	chmod -R u+rwX "$work" 2>/dev/null || :
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say() { printf '\n== %s\n' "$*"; }
die() {
	printf 'demo: %s\n' "$*" >&2
	[ ! -s "$work/transferd.log" ] || sed 's/^/  transferd: /' "$work/transferd.log" >&2
	exit 1
}

say "Build transfer and transferd"
go version >/dev/null 2>&1 || die "Go is needed: https://go.dev/dl"
(cd "$top" && CGO_ENABLED=0 go build -o "$work/bin/" ./cmd/transfer ./cmd/transferd)
PATH=$work/bin:$PATH
transfer version

# From here on nothing of the real home is read or written.
export HOME="$work/home"
export XDG_CONFIG_HOME="$HOME/.config" XDG_STATE_HOME="$HOME/.local/state"
unset SSH_AUTH_SOCK || :
mkdir -p "$HOME" "$work/served" "$work/back"

say "Make a key"
transfer keygen -t ed25519 -N '' -C demo -f "$HOME/.ssh/id_ed25519"

# start SSH TCP starts the daemon at these addresses, and sets $port to where it
# speaks SSH and $tcp to where it speaks transfer's own protocol.
start() {
	: >"$work/ready"
	transferd serve --root "$work/served" --authorized-keys "$HOME/.ssh/id_ed25519.pub" \
		--state-dir "$work/state" --ssh-listen "$1" --tcp-listen "$2" >"$work/ready" 2>>"$work/transferd.log" &
	daemon=$!
	tries=0
	until grep -q 'tcp listening on' "$work/ready"; do
		kill -0 "$daemon" 2>/dev/null || die "the daemon did not start"
		tries=$((tries + 1))
		[ "$tries" -le 60 ] || die "the daemon is not ready after a minute"
		sleep 1
	done
	port=$(sed -n 's/^transferd: ssh listening on .*://p' "$work/ready" | head -n 1)
	tcp=$(sed -n 's/^transferd: tcp listening on .*://p' "$work/ready" | head -n 1)
}

say "Start the daemon on loopback"
start 127.0.0.1:0 127.0.0.1:0
cat "$work/ready"
# A fresh daemon has a fresh host key: the first contact takes it on trust.
copy() { transfer copy --host-key-check=accept-new "$@"; }

say "Copy the project's own source tree there over SSH, and back over raw TCP"
copy -P "$port" -r "$top" 127.0.0.1:/project
copy -r "tcp://127.0.0.1:$tcp/project" "$work/back/"
diff -r "$top" "$work/back/project" || die "the tree that came back differs"
echo "identical, $(find "$work/back/project" -type f | wc -l | tr -d ' ') files"
again=$(copy -r --json -T "$top" "tcp://127.0.0.1:$tcp/project" | grep '"event":"done"') || die "the second run failed"
echo "the same copy again: $again"

say "Copy a 256 MiB file and kill the daemon half-way"
dd if=/dev/urandom of="$work/stack.tif" bs=1048576 count=256 2>/dev/null
copy --bwlimit 48MiB --retries 0 "$work/stack.tif" "tcp://127.0.0.1:$tcp/" &
client=$!
half=134217728
tries=0
while :; do
	arrived=0
	for part in "$work"/served/.transfer-*.part; do
		[ ! -f "$part" ] || arrived=$(wc -c <"$part" | tr -d ' ')
	done
	[ "$arrived" -lt "$half" ] || break
	kill -0 "$client" 2>/dev/null || die "the copy ended before it could be interrupted"
	tries=$((tries + 1))
	[ "$tries" -le 120 ] || die "the copy is stuck at $arrived bytes"
	sleep 1
done
kill -9 "$daemon"
wait "$daemon" 2>/dev/null || :
status=0
wait "$client" || status=$?
[ "$status" -eq 6 ] || die "the broken-off copy exited with $status, not 6"
[ ! -e "$work/served/stack.tif" ] || die "a partial file has the final name"
echo "killed; the copy exited with 6: run it again"

say "Start the daemon again and repeat the same command"
start "127.0.0.1:$port" "127.0.0.1:$tcp"
copy --json "$work/stack.tif" "tcp://127.0.0.1:$tcp/" >"$work/events"
field() { sed -n '/"event":"done"/s/.*"'"$1"'":\([0-9]*\).*/\1/p' "$work/events"; }
sent=$(field bytes_sent) resumed=$(field bytes_resumed)
[ -n "$sent" ] && [ -n "$resumed" ] || die "no result in: $(cat "$work/events")"
echo "sent $((sent / 1048576)) MiB, not resent $((resumed / 1048576)) MiB"
[ "$resumed" -gt 0 ] || die "nothing was resumed"

say "Compare the digests of both sides"
here=$(transfer sum "$work/stack.tif" | cut -d ' ' -f 1)
there=$(transfer sum "tcp://127.0.0.1:$tcp/stack.tif" | cut -d ' ' -f 1)
echo "here  $here"
echo "there $there"
[ "$here" = "$there" ] || die "the digests differ"
left=$(find "$work/served" -name '.transfer-*' | wc -l | tr -d ' ')
[ "$left" -eq 0 ] || die "$left partial files are left over"

say "Done: copied, killed, resumed and verified"
