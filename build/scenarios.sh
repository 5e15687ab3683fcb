#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs the tests of a package in two halves at once, each of which brings its own network namespace, libvirtd and
# registry: tests that mostly wait leave half of the machine to the others. Prints each scenario with its time as it
# ends, and what one that fails said.
#
#   build/scenarios.sh NAME FIRST go test ...    # FIRST: a regexp of the tests of the first half
#
# All that was said is in out/NAME.1.log and out/NAME.2.log.
set -uo pipefail

name=${1:?usage: build/scenarios.sh NAME FIRST COMMAND...} first=${2:?usage: build/scenarios.sh NAME FIRST COMMAND...}
shift 2
build=$(cd "$(dirname "$0")" && pwd) out=$build/../out
mkdir -p "$out"

# mawk waits for much to read, unless it is told not to; others do not know the word.
prompt=()
if awk -W version 2>/dev/null </dev/null | grep -q mawk; then
  prompt=(-W interactive)
fi

# half N FLAG COMMAND...
half() {
  local log=$out/$name.$1.log flag=$2
  shift 2
  "$@" -v "$flag=$first" 2>&1 | tee "$log" | awk "${prompt[@]}" -f "$build/verdicts.awk"
  return "${PIPESTATUS[0]}"
}

half 1 -run "$@" &
one=$!
half 2 -skip "$@" &
two=$!
status=0
wait "$one" || status=$?
wait "$two" || status=$?
exit "$status"
