// SPDX-License-Identifier: Apache-2.0

// Command kube is the parts of Kubernetes that the tests run vmlet under, in one binary: built together they share nearly
// all of their code. It is the part that it is called as.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register" // the same as in the main functions of the parts
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

// parts are what the binary may be called as.
var parts = map[string]func(context.Context) *cobra.Command{
	"kubelet": kubelet.NewKubeletCommand,
}

func main() {
	part := parts[filepath.Base(os.Args[0])]
	if part == nil {
		fmt.Fprintf(os.Stderr, "%s is not the name of a part of Kubernetes that is in here\n", os.Args[0])
		os.Exit(2)
	}
	os.Exit(cli.Run(part(context.Background())))
}
