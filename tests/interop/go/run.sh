#!/usr/bin/env bash
# Generates Go stubs from proto/ beside a copy of the client in target/interop/go, and runs it against ADDR with TOKEN.
# Exit code: 0 all checks passed, 1 one failed, 77 a tool is missing.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
export PATH=$target/tools/bin:$PATH

missing() {
  echo "missing: $1 (cargo xtask setup)" >&2
  exit 77
}
command -v go >/dev/null || missing go
command -v buf >/dev/null || missing buf
# Also fails where this Go is older than go.mod asks for and may not fetch a newer one.
(cd "$here" && go mod download) || missing "a newer go, or the modules of tests/interop/go/go.mod"

# A folder of its own for each run: two may run at once.
mkdir -p "$target/interop/go"
work=$(mktemp -d "$target/interop/go/run-XXXXXX")
trap 'rm -rf "$work"' EXIT
cp "$here"/{go.mod,go.sum,main.go} "$work"
cd "$work"
buf generate "$root" --template "$here/buf.gen.yaml" --output "$work"

if [[ ${1:-} == --generate ]]; then
  go vet ./...
  exit
fi
: "${ADDR:?host:port of cofferd}" "${TOKEN:?a bearer token}"
go run -buildvcs=false -trimpath .
