#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs two commands at once, the first with what the second leaves of the CPUs. What the first says comes when the second has
# ended. Fails if one of them does.
#
#   build/beside.sh MODEST COMMAND
set -uo pipefail

modest=${1:?usage: build/beside.sh MODEST COMMAND} command=${2:?usage: build/beside.sh MODEST COMMAND}
said=$(mktemp)
trap 'rm -f "$said"' EXIT
"$(dirname "$0")/idle.sh" sh -c "$modest" >"$said" 2>&1 </dev/null &
status=0
sh -c "$command" || status=$?
wait $! || status=$?
cat "$said"
exit "$status"
