# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
#
# TEMP: remove what create.sh has made.
command -p rm -f "$1"
