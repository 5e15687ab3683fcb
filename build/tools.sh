#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds every program in the tool block of tools/go.mod: the CNI plugins into OUT/cni, the others into OUT.
#
#   build/tools.sh OUT
set -euo pipefail

mkdir -p "${1:?usage: build/tools.sh OUT}/cni"
out=$(cd "$1" && pwd)
cd "$(dirname "$0")/../tools"

version() { go list -m -f '{{.Version}}' "$1"; }

# Static, so that they also run in a container without this host's libc. The versions are what each program's own
# release build sets: without them `crictl version` and a plugin's CNI VERSION report "unknown".
export CGO_ENABLED=0
# Nobody debugs them: without DWARF, as in kube.sh, so that what both are made of is compiled once.
flags=(-trimpath -gcflags=all=-dwarf=false -ldflags "-s -w \
  -X sigs.k8s.io/cri-tools/pkg/version.Version=$(version sigs.k8s.io/cri-tools) \
  -X github.com/containernetworking/plugins/pkg/utils/buildversion.BuildVersion=$(version github.com/containernetworking/plugins) \
  -X github.com/google/go-containerregistry/cmd/crane/cmd.Version=$(version github.com/google/go-containerregistry)")

plugins=() programs=() tests=()
for pkg in $(go list tool); do
  case $pkg in
    github.com/containernetworking/plugins/*) plugins+=("$pkg") ;;
    */critest) tests+=("$pkg") ;; # critest consists of test files only: `go build` refuses it
    *) programs+=("$pkg") ;;
  esac
done

go build "${flags[@]}" -o "$out/cni/" "${plugins[@]}"
go build "${flags[@]}" -o "$out/" "${programs[@]}"
for pkg in "${tests[@]}"; do
  go test -c "${flags[@]}" -o "$out/${pkg##*/}" "$pkg"
done
