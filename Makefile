# For developers; users need only "go build ./cmd/...".

TOOL := go tool -modfile=tools/go.mod
FUZZTIME ?= 20s

.PHONY: all build test race lint staticcheck fmt fuzz cross bench vuln ci clean

all: build lint test

build: # both programs, into bin/
	CGO_ENABLED=0 go build -trimpath -o bin/ ./cmd/transfer ./cmd/transferd

test: # quick, with whatever peers are installed
	go vet ./...
	go test ./...
	go test -count=1 ./internal/archtest # its result must not be cached: it looks at other packages

race: # all that the README promises of scripts/test.sh
	scripts/test.sh

lint:
	$(TOOL) golangci-lint run

staticcheck:
	$(TOOL) staticcheck ./...

fmt:
	$(TOOL) golangci-lint fmt

fuzz: # every fuzz target for FUZZTIME
	@grep -rlE '^func Fuzz' --include='*_test.go' . | sort | while read -r file; do \
		sed -nE 's/^func (Fuzz[A-Za-z0-9_]*)\(.*/\1/p' "$$file" | while read -r target; do \
			echo "== $$target in $$file"; \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$(dirname "$$file")" </dev/null || exit 1; \
		done || exit 1; \
	done

cross: # what CI builds for other systems
	CGO_ENABLED=0 GOOS=linux GOARCH=arm64 go build -o /dev/null ./cmd/transfer ./cmd/transferd
	CGO_ENABLED=0 GOOS=darwin GOARCH=arm64 go build -o /dev/null ./cmd/transfer
	CGO_ENABLED=0 GOOS=darwin GOARCH=amd64 go build -o /dev/null ./cmd/transfer
	CGO_ENABLED=0 GOOS=windows GOARCH=amd64 go build -o /dev/null ./cmd/transfer

bench: # side by side with scp, sftp, rsync and rclone; takes a while
	go test ./bench -run '^$$' -bench . -benchtime 1x -timeout 60m

vuln: # needs the internet for its database, and so is not part of CI
	$(TOOL) govulncheck ./...

ci:
	.ci/run

clean:
	rm -rf bin
