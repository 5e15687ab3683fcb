#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs a stage of the build or the tests, and says how long it took.
#
#   build/stage.sh NAME COMMAND...   run COMMAND; its exit status is the stage's
#   build/stage.sh --reset           forget the stages run so far
#   build/stage.sh --table           print them with their times
set -uo pipefail

record=$(dirname "$0")/../out/stages

case ${1:?usage: build/stage.sh NAME COMMAND...} in
  --reset)
    rm -f "$record"
    exit
    ;;
  --table)
    [ -f "$record" ] || exit 0
    awk '{ printf "%-20s %-8s %8.1f s\n", $1, $2, $3; sum += $3 } END { printf "%-20s %-8s %8.1f s\n", "total", "", sum }' "$record"
    exit
    ;;
esac

name=$1
shift
echo "==> $name"
start=$EPOCHREALTIME
"$@"
status=$?
seconds=$(((${EPOCHREALTIME//[.,]/} - ${start//[.,]/}) / 1000))
printf -v seconds '%d.%03d' $((seconds / 1000)) $((seconds % 1000))
result=ok
[ $status = 0 ] || result=FAILED
echo "<== $name: $result, $seconds s"
mkdir -p "${record%/*}"
echo "$name $result $seconds" >>"$record"
exit $status
