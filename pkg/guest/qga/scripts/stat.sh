# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
#
# PATH: print size, mode, owner, group and time of a regular file. 44: there is none; 45: it is not regular, and the agent
# would wait for ever at a pipe.
[ -e "$1" ] || exit 44
[ -f "$1" ] || exit 45
command -p stat -L -c '%s %f %u %g %Y' "$1"
