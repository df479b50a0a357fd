#!/usr/bin/env bash
# Takes the time that CI has not: the fault matrix at every byte, forty rounds of
# real processes killed at random moments while they move 1 GiB over four
# streams, and a cable pulled for half a minute. About half an hour; the tests'
# own arguments may follow, such as -run Killed.
set -euo pipefail
cd "$(dirname "$0")/.."
exec </dev/null

export GOFLAGS="${GOFLAGS:+$GOFLAGS }-buildvcs=false"
export TRANSFER_SOAK=1

go test -count=1 -timeout 90m -run 'FaultMatrix' "$@" ./internal/transport/native
go test -count=1 -timeout 90m -v -run 'KilledNative|PulledCable|PowerCut' "$@" ./internal/interop ./internal/store
