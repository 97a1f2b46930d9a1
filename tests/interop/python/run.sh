#!/usr/bin/env bash
# Generates Python stubs from proto/ into target/interop/python and runs the client against ADDR with TOKEN.
# Exit code: 0 all checks passed, 1 one failed, 77 a tool is missing.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}

python=python3
[[ -x $target/tools/python/bin/python ]] && python=$target/tools/python/bin/python
if ! "$python" -c 'import grpc, grpc_status, grpc_tools' 2>/dev/null; then
  echo "missing: python3 with the packages of tests/interop/python/requirements.txt (cargo xtask setup)" >&2
  exit 77
fi

# A folder of its own for each run: two may run at once.
mkdir -p "$target/interop/python"
stubs=$(mktemp -d "$target/interop/python/run-XXXXXX")
trap 'rm -rf "$stubs"' EXIT
"$python" -m grpc_tools.protoc --proto_path="$root/proto" --python_out="$stubs" --grpc_python_out="$stubs" \
  "$root"/proto/coffer/v1/*.proto

if [[ ${1:-} == --generate ]]; then
  PYTHONPATH=$stubs "$python" -B -c 'from coffer.v1 import audit_service_pb2_grpc, file_service_pb2_grpc, quota_service_pb2_grpc, \
transfer_service_pb2_grpc, volume_service_pb2_grpc'
  exit
fi
: "${ADDR:?host:port of cofferd}" "${TOKEN:?a bearer token}"
PYTHONPATH=$stubs "$python" -B "$here/client.py"
