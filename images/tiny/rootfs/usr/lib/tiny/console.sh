#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# A root shell on the terminal $1, once somebody is there: a prompt nobody asked for has no place in a console log.

echo "Press Enter for a shell." >"$1"
read -r _ <"$1" || exit
# shellcheck disable=SC2094  # a terminal
exec setsid -c sh -l <"$1" >"$1" 2>&1
