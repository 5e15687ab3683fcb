#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs a command that gets what other processes leave of the CPUs.
#
#   build/idle.sh COMMAND...
set -euo pipefail

[ $# -gt 0 ] || { echo "usage: build/idle.sh COMMAND..." >&2; exit 2; }
if chrt --idle 0 true 2>/dev/null; then
  exec chrt --idle 0 nice -n 19 "$@"
fi
exec nice -n 19 "$@"
