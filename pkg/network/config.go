// SPDX-License-Identifier: Apache-2.0

package network

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/utils"
	"github.com/containernetworking/cni/pkg/version"
)

// chooseConfig reads the first valid CNI configuration in dir by file name, as kubelet's
// runtimes do: *.conflist, *.conf and *.json. Unavailable if there is none; the error says
// what is wrong with each file.
//
// The folder is read every time, which takes some 0.1 ms. A watch could only tell
// the same later, and loses a folder that is replaced.
func chooseConfig(dir string) (*libcni.NetworkConfigList, error) {
	files, err := configFiles(dir)
	if err != nil {
		return nil, err
	}
	var wrong []string
	for _, file := range files {
		list, err := readConfig(file)
		if err == nil {
			return list, nil
		}
		wrong = append(wrong, fmt.Sprintf("%s: %v", filepath.Base(file), err))
	}
	if len(wrong) > 0 {
		return nil, fmt.Errorf("no valid CNI configuration in %s (%s): %w", dir, strings.Join(wrong, "; "), errdefs.ErrUnavailable)
	}
	return nil, fmt.Errorf("no CNI configuration in %s: %w", dir, errdefs.ErrUnavailable)
}

// configFiles are the files that may hold a configuration, in their order.
func configFiles(dir string) ([]string, error) {
	files, err := libcni.ConfFiles(dir, []string{".conflist", ".conf", ".json"})
	if err != nil {
		return nil, fmt.Errorf("read CNI configurations: %w: %w", errdefs.ErrUnavailable, err)
	}
	slices.Sort(files)
	return files, nil
}

func readConfig(file string) (*libcni.NetworkConfigList, error) {
	list, err := readAny(file)
	if err != nil {
		return nil, err
	}
	return judged(list)
}

// judged refuses a configuration that cannot be used, and returns it as inline does.
func judged(list *libcni.NetworkConfigList) (*libcni.NetworkConfigList, error) {
	if err := utils.ValidateNetworkName(list.Name); err != nil {
		return nil, fmt.Errorf("name %q: %w", list.Name, err)
	}
	if len(list.Plugins) == 0 {
		return nil, fmt.Errorf("no plugins")
	}
	if v := list.CNIVersion; v != "" && !slices.Contains(version.All.SupportedVersions(), v) {
		return nil, fmt.Errorf("cniVersion %q is not known here", v)
	}
	return inline(list)
}

// readAny reads a list, or a single plugin's configuration as a list of one.
func readAny(file string) (*libcni.NetworkConfigList, error) {
	if filepath.Ext(file) == ".conflist" {
		return libcni.NetworkConfFromFile(file)
	}
	single, err := libcni.ConfFromFile(file) //nolint:staticcheck // deprecated as a format, and in use
	if err != nil {
		return nil, err
	}
	return libcni.ConfListFromConf(single) //nolint:staticcheck // the same
}

// inline writes all of a list in one JSON text, also plugins that came from files beside it
// (CNI 1.1), so that the text can be kept for the DEL.
func inline(list *libcni.NetworkConfigList) (*libcni.NetworkConfigList, error) {
	plugins := make([]json.RawMessage, len(list.Plugins))
	for i, p := range list.Plugins {
		plugins[i] = p.Bytes
	}
	data, err := json.Marshal(map[string]any{
		"name":                   list.Name,
		"cniVersion":             list.CNIVersion,
		"disableCheck":           list.DisableCheck,
		"disableGC":              list.DisableGC,
		"loadOnlyInlinedPlugins": true,
		"plugins":                plugins,
	})
	if err != nil {
		return nil, err
	}
	return libcni.NetworkConfFromBytes(data)
}

// findPlugins looks whether all plugins of a configuration are there. Unavailable if not.
// Plugins that these plugins call (IPAM) are found missing by the call itself.
func (n *Network) findPlugins(list *libcni.NetworkConfigList) error {
	exec := &pluginExec{}
	for _, p := range list.Plugins {
		if _, err := exec.FindInPath(p.Network.Type, n.conf.BinDirs); err != nil {
			return fmt.Errorf("CNI network %s: %w", list.Name, err)
		}
	}
	return nil
}
