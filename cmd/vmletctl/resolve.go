// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// target is what a name or an ID on the command line stands for.
type target struct {
	pod
	// boot is the container that was told by its ID, else the pod's own choice, nil if the
	// pod has none.
	boot *runtimeapi.Container
}

// find looks a pod up as the root command's help says.
func (c *client) find(ctx context.Context, ref string) (target, error) {
	pods, err := c.pods(ctx)
	if err != nil {
		return target{}, err
	}
	return resolve(pods, ref)
}

// findContainer is find for commands that need a container.
func (c *client) findContainer(ctx context.Context, ref string) (target, error) {
	t, err := c.find(ctx, ref)
	if err == nil && t.boot == nil {
		err = fmt.Errorf("pod %s has no container: no VM was made for it yet", t)
	}
	return t, err
}

// resolve prefers a whole name or ID to the beginning of an ID.
func resolve(pods []pod, ref string) (target, error) {
	for _, candidates := range [][]target{byID(pods, ref), byName(pods, ref), byBeginning(pods, ref)} {
		switch len(candidates) {
		case 0:
		case 1:
			return candidates[0], nil
		default:
			return target{}, ambiguous(ref, candidates)
		}
	}
	return target{}, fmt.Errorf("there is no pod %q; list them: vmletctl ps -a", ref)
}

func byID(pods []pod, ref string) []target {
	return matching(pods, func(id string) bool { return id == ref })
}

func byBeginning(pods []pod, ref string) []target {
	if ref == "" {
		return nil
	}
	return matching(pods, func(id string) bool { return strings.HasPrefix(id, ref) })
}

func matching(pods []pod, fits func(id string) bool) []target {
	var found []target
	for _, p := range pods {
		if fits(p.sandbox.GetId()) {
			found = append(found, target{p, p.container()})
		}
		for _, c := range p.containers {
			if fits(c.GetId()) {
				found = append(found, target{p, c})
			}
		}
	}
	return found
}

// byName takes all attempts of one pod for the newest of them: the others are its past.
func byName(pods []pod, ref string) []target {
	var found []target
	for _, p := range pods { // of one pod, the newest comes last
		if ref != p.sandbox.GetMetadata().GetName() && ref != p.inNamespace() && ref != p.String() {
			continue
		}
		if n := len(found); n > 0 && found[n-1].sandbox.GetMetadata().GetUid() == p.sandbox.GetMetadata().GetUid() {
			found = found[:n-1]
		}
		found = append(found, target{p, p.container()})
	}
	return found
}

func ambiguous(ref string, candidates []target) error {
	const most = 5
	var list []string
	for i, t := range candidates {
		if i == most {
			list = append(list, fmt.Sprintf("and %d more", len(candidates)-most))
			break
		}
		list = append(list, fmt.Sprintf("%s (%s)", t, short(t.sandbox.GetId())))
	}
	return fmt.Errorf("%q fits more than one pod: %s; tell more of it", ref, strings.Join(list, ", "))
}

// short is enough of an ID for people. A digest's algorithm is left out.
func short(id string) string {
	const length = 12
	if _, digits, ok := strings.Cut(id, ":"); ok {
		id = digits
	}
	return id[:min(len(id), length)]
}
