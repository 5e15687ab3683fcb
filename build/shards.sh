#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs the tests of one package in several processes at once, each with a part of them: a guest under emulation keeps one
# core busy while it boots, and the tests wait for it.
#
#   build/shards.sh N PACKAGE FLAGS...    FLAGS are go test's; what each process said is in out/
set -uo pipefail

count=${1:?usage: build/shards.sh N PACKAGE FLAGS...}
package=${2:?usage: build/shards.sh N PACKAGE FLAGS...}
shift 2
cd "$(dirname "$0")/.." || exit
mkdir -p out
out=$PWD/out
name=$(basename "$package")
binary=$out/$name.test
go test -c -o "$binary" "$@" "./$package" || exit
cd "$package" || exit
mapfile -t tests < <("$binary" -test.list '^Test' | grep '^Test')
if [ ${#tests[@]} = 0 ]; then
  echo "no tests in $package"
  exit 1
fi

pids=()
trap 'kill "${pids[@]}" 2>/dev/null' INT TERM
for ((i = 0; i < count; i++)); do
  part=
  for ((j = i; j < ${#tests[@]}; j += count)); do
    part+="${part:+|}${tests[j]}"
  done
  "$binary" -test.v -test.timeout 40m -test.run "^($part)\$" >"$out/$name.$i.log" 2>&1 &
  pids+=($!)
done

status=0
for ((i = 0; i < count; i++)); do
  if ! wait "${pids[i]}"; then
    status=1
    grep -vE '^=== (RUN|PAUSE|CONT|NAME)' "$out/$name.$i.log"
  fi
done
grep -hE '^--- ' "$out/$name".*.log | sed -E 's/^--- (PASS|FAIL|SKIP): (\S+) \((.*)s\)$/\3 \1 \2/' | sort -rn | awk 'NR <= 10 { print "   " $1 " s " $2 " " $3 } END { print "   " NR " tests in '"$count"' processes, the ten longest above" }'
exit $status
