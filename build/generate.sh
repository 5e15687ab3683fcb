#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Generates the Go code of every .proto file under proto/, beside it.
#
#   build/generate.sh           write it
#   build/generate.sh --check   fail if what is there is not what the .proto files generate
#
# protoc is the distribution's, the plugins are pinned in tools/go.mod; the generated files name all their versions.
set -euo pipefail

cd "$(dirname "$0")/.."
command -v protoc >/dev/null || { echo "generate: protoc is missing: run build/install-deps.sh test" >&2; exit 1; }

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
go -C tools build -o "$scratch/bin/" google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc

out=proto
if [ "${1:-}" = --check ]; then
  out=$scratch/proto
  mkdir "$out"
fi
mapfile -t files < <(find proto -name '*.proto' -printf '%P\n' | sort)
PATH="$scratch/bin:$PATH" protoc -I proto "${files[@]}" \
  --go_out="$out" --go_opt=paths=source_relative \
  --go-grpc_out="$out" --go-grpc_opt=paths=source_relative

if [ "$out" != proto ]; then
  diff -ruN --exclude='*.proto' --exclude=doc.go --exclude='*_test.go' --exclude=testdata proto "$out" ||
    { echo "generate: the generated code is not what the .proto files say: run make generate" >&2; exit 1; }
fi
