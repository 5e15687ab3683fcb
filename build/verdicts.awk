# SPDX-License-Identifier: Apache-2.0
#
# Reads what `go test -v` says of tests that run one after another: prints each with its time as it ends, right before that
# what one that fails said, so that a log which is cut anywhere tells why, and at the end vmlet's log in those that failed.

/^=== RUN/ && $3 !~ /\// { kept = 0 }
/^=== / { next }
/^ *--- / {
  failed = $2 == "FAIL:"
  if (/^---/) {
    if (failed) logs[++logged] = "vmlet's log in " $3 ":"
    for (i = 1; i <= kept && failed; i++) {
      if (lines[i] ~ /^ *\{"level"/) logs[++logged] = lines[i]
      else print substr(lines[i], 1, 2000)
    }
    kept = 0
  }
  if (failed || /^---/) print
  fflush()
  next
}
/^(ok|FAIL|PASS|panic:|exit status)/ {
  if ($1 != "PASS") print
  fflush()
  next
}
{ lines[++kept] = $0 }
END {
  for (i = 1; i <= kept; i++) print lines[i] # a panic's goroutines, or why it was not built
  for (i = 1; i <= logged; i++) print logs[i]
}
