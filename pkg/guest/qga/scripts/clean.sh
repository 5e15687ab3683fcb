# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
#
# TAG: remove what run.sh left.
command -p rm -f "/tmp/$1.out" "/tmp/$1.err" "/tmp/$1.dd" "/run/$1.out" "/run/$1.err" "/run/$1.dd"
