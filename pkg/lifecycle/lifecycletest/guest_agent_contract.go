// SPDX-License-Identifier: Apache-2.0

package lifecycletest

import (
	"testing"
)

// agentsAreTold: whoever follows AwaitChange and asks Agent knows in the end how it is.
func agentsAreTold(t *testing.T, env GuestEnv) {
	follow := func(boot string, answers bool) {
		t.Helper()
		for {
			if got, up := env.Guest.Agent(env.Answering); got == boot && up == answers {
				return
			}
			if _, err := env.Guest.AwaitChange(t.Context()); err != nil {
				t.Fatalf("waiting for %q, %t: %v", boot, answers, err)
			}
		}
	}
	first := mustAwait(t, env)
	follow(first, true)
	env.Reboot()
	<-env.Guest.Reboots()
	second := mustAwait(t, env)
	follow(second, true)
	if first == second {
		t.Errorf("boot ID %q again", second)
	}
	if boot, up := env.Guest.Agent(env.Silent); boot != "" || up {
		t.Errorf("a guest without an agent answers, in boot %q", boot)
	}
	env.Guest.Disconnect(env.Answering)
	follow("", false)
	env.Guest.Connect(env.Answering)
	follow(second, true)
}
