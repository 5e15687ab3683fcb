# SPDX-License-Identifier: Apache-2.0
#
# After yaml.awk: prints PATH, a tab and the value for every scalar, escaped for printf '%b'.

END {
	for (i = 1; i <= paths; i++) {
		text = value[path[i]]
		gsub(/\\/, "\\\\", text)
		gsub(/\n/, "\\n", text)
		print path[i] "\t" text
	}
}
