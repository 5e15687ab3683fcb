#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Checks what can be checked of the Dockerfile without a container engine: what it copies from this tree exists and is
# committed, what it runs parses, and its entrypoint is among the copied scripts and executable.
set -euo pipefail

cd "${1:-$(dirname "$0")/../..}"
status=0
complain() { echo "Dockerfile: $*" >&2; status=1; }

copied=()
# Comments out, continued lines joined.
while read -r instruction arguments; do
  case $instruction in
    COPY)
      read -ra words <<<"$arguments"
      [[ ${words[0]} != --from=* ]] || continue
      for source in "${words[@]:0:${#words[@]}-1}"; do
        copied+=("$source")
        [ "$source" = . ] || [ -n "$(git ls-files -- "$source")" ] || complain "COPY $source: not in this tree"
      done
      ;;
    RUN) sh -nc "$arguments" || complain "RUN $arguments: does not parse" ;;
    ENTRYPOINT)
      script=${arguments##*/} # ["/usr/bin/tini", "--", "/some/script"]
      script=${script%%\"*}
      matching=$(printf '%s\n' "${copied[@]}" | grep "/$script\$") || complain "ENTRYPOINT: no COPY of $script"
      [ -z "$matching" ] || [ -x "$matching" ] || complain "ENTRYPOINT: $matching is not executable"
      ;;
  esac
done < <(sed '/^#/d' Dockerfile | sed -e ':join' -e '/\\$/{N;s/\\\n//;b join' -e '}')
[ ${#copied[@]} -gt 0 ] || complain "no COPY found"
exit $status
