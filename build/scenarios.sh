#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs a `go test` and prints each scenario with its time as it ends; where one fails, what all of them said as well.
#
#   build/scenarios.sh NAME go test ...    # all that was said is in out/NAME.log
set -uo pipefail

name=${1:?usage: build/scenarios.sh NAME COMMAND...}
shift
mkdir -p "$(dirname "$0")/../out"
log=$(cd "$(dirname "$0")/../out" && pwd)/$name.log

"$@" -v 2>&1 | tee "$log" | grep --line-buffered -E '^ *--- |^(ok|FAIL|panic:)'
status=${PIPESTATUS[0]}
if [ "$status" -ne 0 ]; then
  grep -vE '^=== (RUN|PAUSE|CONT|NAME)' "$log"
fi
exit "$status"
