// SPDX-License-Identifier: Apache-2.0

package lifecycletest_test

import (
	"testing"

	"github.com/vmlet/vmlet/pkg/lifecycle"
	"github.com/vmlet/vmlet/pkg/lifecycle/lifecycletest"
)

func TestFakeConsolesKeepTheContract(t *testing.T) {
	lifecycletest.RunConsoles(t, func(*testing.T) lifecycletest.ConsolesEnv {
		c := lifecycletest.NewConsoles()
		return lifecycletest.ConsolesEnv{
			Consoles: c,
			Console: func(id string, logged bool) lifecycle.Console {
				console := lifecycle.Console{ContainerID: id, Spool: id + ".spool", Checkpoint: id + ".checkpoint"}
				if logged {
					console.Log = id + ".log"
				}
				return console
			},
			Print:  c.Print,
			Rotate: c.Rotate,
			Log:    c.Log,
			SpoolExists: func(spool string) bool {
				_, ok := c.Spools()[spool]
				return ok
			},
		}
	})
}
