#!/usr/bin/env bash
# Runs the tests. It installs the other programs that the tests speak to where
# it can (Debian, as root); elsewhere it says which tests are left out, and why.
#
#   TRANSFER_REQUIRE_PEERS=1   a test that would be left out fails instead
#   TRANSFER_NO_INSTALL=1      never install anything
#
# Arguments are packages, ./... if there are none.
set -euo pipefail
cd "$(dirname "$0")/.."
exec </dev/null

export GOFLAGS="${GOFLAGS:+$GOFLAGS }-buildvcs=false" # a clone of another owner has no readable .git
required=${TRANSFER_REQUIRE_PEERS:-}
say() { printf 'test.sh: %s\n' "$*"; }

# What is needed: how to see that it is there, Debian's package, and which
# tests do without it.
peers() {
	cat <<-'END'
		openssh-server /usr/sbin/sshd copies to and from a stock sshd
		openssh-client ssh everything with stock ssh, scp and sftp
		openssh-sftp-server /usr/lib/openssh/sftp-server copies to and from a stock sshd
		rclone rclone rclone against our daemon
		lftp lftp lftp against our daemon
		putty-tools psftp PuTTY's psftp against our daemon
		curl curl curl against our daemon
		sshfs sshfs sshfs against our daemon
		fuse3 fusermount3 sshfs against our daemon
		python3-paramiko paramiko paramiko against our daemon
		python3-openssl OpenSSL a client written from docs/protocol.md
		rsync rsync the comparison with rsync
		b3sum b3sum the comparison of digests with b3sum
	END
}

present() {
	case $1 in
	# Another python3 may come first in PATH; the package is for Debian's own.
	paramiko | OpenSSL) /usr/bin/python3 -c "import $1" 2>/dev/null || python3 -c "import $1" 2>/dev/null ;;
	/*) [ -x "$1" ] || command -v "${1##*/}" >/dev/null ;;
	*) command -v "$1" >/dev/null ;;
	esac
}

# missing prints the lines of peers that are not there.
missing() {
	peers | while read -r package probe what; do
		present "$probe" || printf '%s %s\n' "$package" "$what"
	done
}

# install gets packages without starting any service that comes with them.
install() {
	local policy=/usr/sbin/policy-rc.d status=0
	if [ ! -e "$policy" ]; then
		printf '#!/bin/sh\nexit 101\n' >"$policy"
		chmod 755 "$policy"
	else
		policy=
	fi
	export DEBIAN_FRONTEND=noninteractive
	{ apt-get update -qq && apt-get install -qq -y --no-install-recommends "$@"; } >&2 || status=$?
	[ -z "$policy" ] || rm -f "$policy"
	return "$status"
}

lacking=$(missing)
if [ -n "$lacking" ] && [ -z "${TRANSFER_NO_INSTALL:-}" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	packages=$(printf '%s\n' "$lacking" | cut -d' ' -f1 | sort -u | tr '\n' ' ')
	say "installing $packages"
	# shellcheck disable=SC2086 # one word for each package
	install $packages || say "apt-get could not install them all"
	lacking=$(missing)
fi
left_out() {
	[ -z "$lacking" ] || printf '%s\n' "$lacking" | while read -r package what; do
		say "LEFT OUT, because $package is not installed: $what"
	done
}
left_out
if [ -n "$lacking" ] && [ "$required" = 1 ]; then
	say "TRANSFER_REQUIRE_PEERS=1 wants every one of them"
	exit 1
fi

[ $# -gt 0 ] || set -- ./...
go vet "$@"

log=$(mktemp "${TMPDIR:-/tmp}/transfer-test.XXXXXX")
trap 'rm -f "$log"' EXIT

# One line for each package as it ends; the rest goes to the log.
set +e
go test -race -count=1 -timeout 15m -json "$@" 2>&1 | tee "$log" | awk -f scripts/report.awk -v want=packages
status=${PIPESTATUS[0]}
set -e
if [ "$status" -ne 0 ]; then
	say "what went wrong:"
	awk -f scripts/report.awk -v want=fail "$log" "$log"
fi
skipped=$(grep '"Action":"skip"' "$log" | grep -c '"Test":' || :)
if [ "$skipped" -gt 0 ]; then
	say "$skipped tests were left out:"
	awk -f scripts/report.awk -v want=skip "$log" "$log"
	[ "$required" != 1 ] || status=1
fi
left_out
count() { grep "\"Action\":\"$1\"" "$log" | grep -c '"Test":' || :; }
printf 'tests: %d passed, %d failed, %d skipped\n' "$(count pass)" "$(count fail)" "$skipped"
exit "$status"
