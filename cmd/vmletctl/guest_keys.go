// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// keysView is what is told of a user's keys. Its JSON is for programs: keys are added, none changes.
type keysView struct {
	Pod  string   `json:"pod"`
	User string   `json:"user"`
	Keys []string `json:"keys"`
}

// maxKeysFile is the most that is read of a file of keys, in bytes: vmlet takes no more.
const maxKeysFile = 256 << 10

func (a *app) guestKeysCommand() *cobra.Command {
	var add, remove, replace string
	cmd := &cobra.Command{
		Use:   "keys POD USER",
		Short: "List or change the SSH keys that a user of a guest logs in by",
		Long: `Lists the lines of ~/.ssh/authorized_keys of a user of a guest. With --add, --remove or
--replace it is changed first, by the public keys in a local file, or in stdin for -.`,
		Example: `  vmletctl guest keys web debian
  vmletctl guest keys web debian --add ~/.ssh/id_ed25519.pub`,
		Args: cobra.ExactArgs(2),
		RunE: a.connected(func(ctx context.Context, c *client, args []string) error {
			given := 0
			for _, file := range []string{add, remove, replace} {
				if file != "" {
					given++
				}
			}
			if given > 1 {
				return usageError{"vmletctl guest keys", fmt.Errorf("of --add, --remove and --replace it takes one")}
			}
			t, err := c.find(ctx, args[0])
			if err != nil {
				return err
			}
			vm, user := t.sandbox.GetId(), args[1]
			for file, mode := range map[*string]vmletv1.AuthorizedKeysMode{
				&add:     vmletv1.AuthorizedKeysMode_AUTHORIZED_KEYS_MODE_ADD,
				&remove:  vmletv1.AuthorizedKeysMode_AUTHORIZED_KEYS_MODE_REMOVE,
				&replace: vmletv1.AuthorizedKeysMode_AUTHORIZED_KEYS_MODE_REPLACE,
			} {
				if *file == "" {
					continue
				}
				keys, err := a.readKeys(*file)
				if err != nil {
					return err
				}
				if _, err := c.vms.SetAuthorizedKeys(ctx, &vmletv1.SetAuthorizedKeysRequest{Vm: vm, User: user, Keys: keys, Mode: mode}); err != nil {
					return err
				}
			}
			resp, err := c.vms.GetAuthorizedKeys(ctx, &vmletv1.GetAuthorizedKeysRequest{Vm: vm, User: user})
			if err != nil {
				return err
			}
			v := keysView{Pod: t.String(), User: user, Keys: append([]string{}, resp.GetKeys()...)}
			return a.print(v, func(w io.Writer) {
				for _, key := range v.Keys {
					fmt.Fprintln(w, key)
				}
			})
		}),
	}
	cmd.Flags().StringVar(&add, "add", "", "`FILE` with keys to add")
	cmd.Flags().StringVar(&remove, "remove", "", "`FILE` with keys to take away")
	cmd.Flags().StringVar(&replace, "replace", "", "`FILE` with the keys that are to be all")
	return cmd
}

// readKeys returns the lines of a local file but for blank ones and comments.
func (a *app) readKeys(name string) ([]string, error) {
	in, _, err := a.open(name)
	if err != nil {
		return nil, err
	}
	defer in.Close() //nolint:errcheck // it was only read
	text, err := io.ReadAll(io.LimitReader(in, maxKeysFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxKeysFile {
		return nil, fmt.Errorf("%s has more than %s", name, size(maxKeysFile))
	}
	var keys []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			keys = append(keys, line)
		}
	}
	return keys, nil
}
