#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs every fuzz target of the tree, one after another, for TIME each. What a target finds is left in its package's
# testdata/fuzz, to be committed with the fix.
#
#   build/fuzz.sh TIME
set -euo pipefail

time=${1:?usage: build/fuzz.sh TIME}
cd "$(dirname "$0")/.."

targets=$(git grep --untracked -oE '^func Fuzz[A-Za-z0-9_]+' -- '*_test.go' | sed 's/:func / /' || true)
[ -n "$targets" ] || { echo "fuzz: no target found" >&2; exit 1; }
# To make an input that is merely new smaller, go test spends a minute by itself, in which nothing is tried.
while read -r file target; do
  build/stage.sh "$target" \
    go test -tags libvirt_dlopen,grpcnotrace,osusergo -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 1s "./${file%/*}" </dev/null
done <<<"$targets"
