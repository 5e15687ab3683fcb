#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Fails if a file that we wrote does not name its license in its first lines. Generated Go is known by the line that
# https://go.dev/s/generatedcode defines.
set -euo pipefail

cd "${1:-$(dirname "$0")/../..}"

# Whatever runs, builds or is compiled, by name or, without an extension, by its first line.
written() {
  git ls-files --cached --others --exclude-standard | while read -r file; do
    [ -f "$file" ] || continue
    case $file in
      *.go | *.sh | *.proto | *.c | *.py | *.mk | *Makefile | *Dockerfile | *.golangci.yml) echo "$file" ;;
      */testdata/*) ;;
      *) case ${file##*/} in
        *.*) ;;
        *) if [ "$(head -c 2 "$file" | tr -d '\0')" = '#!' ]; then echo "$file"; fi ;;
      esac ;;
    esac
  done
}

files=$(written)
[ -n "$files" ] || { echo "headers: no file found to check" >&2; exit 1; }
status=0
while read -r file; do
  first=$(head -n 5 "$file")
  case $first in
    *"SPDX-License-Identifier: Apache-2.0"*) ;;
    *"// Code generated "*" DO NOT EDIT."*) ;;
    *)
      echo "$file: no SPDX-License-Identifier: Apache-2.0 in the first 5 lines" >&2
      status=1
      ;;
  esac
done <<<"$files"
echo "headers: $(wc -l <<<"$files") files looked at"
exit $status
