#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs shellcheck over every bash or sh script of the tree, whatever its name.
set -euo pipefail

cd "$(dirname "$0")/../.."
mapfile -t scripts < <(git grep --untracked -lE '^#! ?/(usr/)?bin/(env )?(ba|da)?sh' -- ':!*.md' ':!*.go' |
  while read -r file; do
    if head -n 1 "$file" | grep -qE '^#! ?/(usr/)?bin/(env )?(ba|da)?sh( |$)'; then echo "$file"; fi
  done)
[ ${#scripts[@]} -gt 0 ] || { echo "shell: no script found" >&2; exit 1; }
# SC1091: a file that is sourced by a computed name is checked by itself.
shellcheck --exclude=SC1091 "${scripts[@]}"
echo "shell: ${#scripts[@]} scripts"
