// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestResolve(t *testing.T) {
	sandbox := func(id, namespace, name, uid string, created int64) *runtimeapi.PodSandbox {
		return &runtimeapi.PodSandbox{
			Id: id, CreatedAt: created, Metadata: &runtimeapi.PodSandboxMetadata{Namespace: namespace, Name: name, Uid: uid},
		}
	}
	container := func(id, sandbox string, state runtimeapi.ContainerState, created int64) *runtimeapi.Container {
		return &runtimeapi.Container{Id: id, PodSandboxId: sandbox, State: state, CreatedAt: created}
	}
	pods := join([]*runtimeapi.PodSandbox{
		sandbox("aa11", "default", "web", "u1", 10),
		sandbox("aa22", "default", "web", "u1", 20), // its second attempt
		sandbox("bb11", "shop", "db", "u2", 10),
		sandbox("bb22", "test", "db", "u3", 10),
		sandbox("cc11", "default", "cc", "u4", 10),
		sandbox("cc22", "default", "bb11", "u5", 10), // named like an ID
		sandbox("dd11", "default", "empty", "u6", 10),
	}, []*runtimeapi.Container{
		container("ca01", "aa22", runtimeapi.ContainerState_CONTAINER_RUNNING, 10),
		container("ca02", "aa22", runtimeapi.ContainerState_CONTAINER_EXITED, 20),
		container("cb01", "bb11", runtimeapi.ContainerState_CONTAINER_EXITED, 10),
		container("cb02", "bb11", runtimeapi.ContainerState_CONTAINER_CREATED, 20),
	})
	for title, tc := range map[string]struct {
		ref           string
		sandbox, boot string
		errors        []string
	}{
		"a name":                        {ref: "cc", sandbox: "cc11"},
		"the newest attempt of a name":  {ref: "web", sandbox: "aa22", boot: "ca01"},
		"namespace and name":            {ref: "shop/db", sandbox: "bb11", boot: "cb02"},
		"an older attempt by its ID":    {ref: "aa11", sandbox: "aa11"},
		"the beginning of an ID":        {ref: "dd", sandbox: "dd11"},
		"a container":                   {ref: "cb01", sandbox: "bb11", boot: "cb01"},
		"the beginning of a container":  {ref: "cb02", sandbox: "bb11", boot: "cb02"},
		"the one that runs is chosen":   {ref: "aa22", sandbox: "aa22", boot: "ca01"},
		"a whole ID is before a name":   {ref: "bb11", sandbox: "bb11", boot: "cb02"},
		"a name is before a beginning":  {ref: "cc", sandbox: "cc11"},
		"a name in several namespaces":  {ref: "db", errors: []string{"more than one", "shop/db (bb11)", "test/db (bb22)"}},
		"the beginning of several":      {ref: "bb", errors: []string{"shop/db (bb11)", "test/db (bb22)"}},
		"a beginning of many":           {ref: "c", errors: []string{"more than one", "and 1 more"}},
		"nothing":                       {ref: "moon", errors: []string{`no pod "moon"`, "vmletctl ps -a"}},
		"an empty one":                  {ref: "", errors: []string{"no pod"}},
		"a namespace that has not it":   {ref: "shop/web", errors: []string{"no pod"}},
		"an ID in no namespace's words": {ref: "default/aa11", errors: []string{"no pod"}},
	} {
		t.Run(title, func(t *testing.T) {
			got, err := resolve(pods, tc.ref)
			if len(tc.errors) > 0 {
				for _, text := range tc.errors {
					if err == nil || !strings.Contains(err.Error(), text) {
						t.Errorf("got %v, want %q in it", err, text)
					}
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.sandbox.GetId() != tc.sandbox || got.boot.GetId() != tc.boot {
				t.Errorf("got %s and %s", got.sandbox.GetId(), got.boot.GetId())
			}
		})
	}
}
