// SPDX-License-Identifier: Apache-2.0

package qga

import (
	_ "embed"
	"strings"
)

const (
	shell = "/bin/sh"
	// setsid makes what it runs the leader of a session of its own. The agent's child is
	// no group leader, so setsid does not fork: the agent's process ID is the session's.
	setsid = "setsid"
)

// The programs that run in the guest, in the words of POSIX sh. Each comes to the shell as
// one argument and what it works on as further ones: nothing is quoted, so nothing is
// quoted wrongly.
var (
	//go:embed scripts/run.sh
	runSource string
	//go:embed scripts/read.sh
	readSource string
	//go:embed scripts/clean.sh
	cleanSource string
	//go:embed scripts/kill.sh
	killSource string
	//go:embed scripts/boot.sh
	bootSource string
	//go:embed scripts/stat.sh
	statSource string
	//go:embed scripts/create.sh
	createSource string
	//go:embed scripts/place.sh
	placeSource string
	//go:embed scripts/drop.sh
	dropSource string
	//go:embed scripts/keys.sh
	keysSource string

	runScript   = withoutComments(runSource)
	readScript  = withoutComments(readSource)
	cleanScript = withoutComments(cleanSource)
	killScript  = withoutComments(killSource)

	bootScript   = withoutComments(bootSource)
	statScript   = withoutComments(statSource)
	createScript = withoutComments(createSource)
	placeScript  = withoutComments(placeSource)
	dropScript   = withoutComments(dropSource)
	keysScript   = withoutComments(keysSource)
)

// withoutComments drops the lines of a script that do nothing, which would be half of what
// is sent with every command.
func withoutComments(source string) string {
	var out strings.Builder
	for line := range strings.Lines(source) {
		if text := strings.TrimSpace(line); text != "" && !strings.HasPrefix(text, "#") {
			out.WriteString(line)
		}
	}
	return out.String()
}
