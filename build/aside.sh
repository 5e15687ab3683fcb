#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Begins a command that gets what other processes leave of the CPUs, and returns at once. It keeps nothing of its caller's
# open: neither its output nor make's job server.
#
#   build/aside.sh LOG COMMAND...    # LOG gets what it says
set -euo pipefail

log=${1:?usage: build/aside.sh LOG COMMAND...}
shift
idle=(nice -n 19)
if chrt --idle 0 true 2>/dev/null; then
  idle=(chrt --idle 0 nice -n 19)
fi
env -u MAKEFLAGS -u MFLAGS setsid "${idle[@]}" "$@" >"$log" 2>&1 </dev/null &
echo "beside what follows: $*; it says so in $log"
