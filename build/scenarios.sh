#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs the tests of a package in two halves at once, each of which brings its own network namespace, libvirtd and
# registry: tests that mostly wait leave half of the machine to the others. Prints each scenario with its time as it
# ends; where one fails, what all of its half said as well.
#
#   build/scenarios.sh NAME FIRST go test ...    # FIRST: a regexp of the tests of the first half
#
# All that was said is in out/NAME.1.log and out/NAME.2.log.
set -uo pipefail

name=${1:?usage: build/scenarios.sh NAME FIRST COMMAND...} first=${2:?usage: build/scenarios.sh NAME FIRST COMMAND...}
shift 2
mkdir -p "$(dirname "$0")/../out"
out=$(cd "$(dirname "$0")/../out" && pwd)

# half N FLAG COMMAND...
half() {
  local log=$out/$name.$1.log flag=$2 status
  shift 2
  "$@" -v "$flag=$first" 2>&1 | tee "$log" | grep --line-buffered -E '^ *--- |^(ok|FAIL|panic:)'
  status=${PIPESTATUS[0]}
  if [ "$status" -ne 0 ]; then
    grep -vE '^=== (RUN|PAUSE|CONT|NAME)' "$log"
  fi
  return "$status"
}

half 1 -run "$@" &
one=$!
half 2 -skip "$@" &
two=$!
status=0
wait "$one" || status=$?
wait "$two" || status=$?
exit "$status"
