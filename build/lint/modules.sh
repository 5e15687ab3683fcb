#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Fails if a go.mod or go.sum is not what `go mod tidy` makes of it.
set -euo pipefail

cd "$(dirname "$0")/../.."
for mod in $(git ls-files -- go.mod '*/go.mod'); do
  folder=$(dirname "$mod")
  go -C "$folder" mod tidy -diff || { echo "$folder: run go mod tidy there" >&2; exit 1; }
done
