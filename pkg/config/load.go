// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"sort"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"go.yaml.in/yaml/v3"
)

// Load reads a file over the defaults and judges the result. All that is wrong is
// reported at once, each line as FILE:LINE:COLUMN: key: what is wrong.
func Load(path string) (Config, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("read the configuration: %w", err)
	}
	return Parse(path, b)
}

// Parse is Load for bytes; name stands for the file in errors.
func Parse(name string, b []byte) (Config, error) {
	c := Default()
	if err := decode(name, b, &c); err != nil {
		return Config{}, err
	}
	return c, nil
}

func decode(name string, b []byte, c *Config) error {
	var doc yaml.Node
	if err := yaml.Unmarshal(b, &doc); err != nil {
		return fmt.Errorf("%s: %s: %w", name, strings.TrimPrefix(err.Error(), "yaml: "), errdefs.ErrInvalidArgument)
	}
	d := decoder{name: name, at: map[string]*yaml.Node{}}
	if len(doc.Content) > 0 && !isNull(doc.Content[0]) {
		d.value(doc.Content[0], reflect.ValueOf(c).Elem(), "")
	}
	for _, p := range c.problems() {
		d.fail(d.at[p.key], p.key, p.text)
	}
	return d.err()
}

// decoder walks a YAML document and a struct side by side, so that every complaint
// knows its line and column.
type decoder struct {
	name  string
	at    map[string]*yaml.Node
	found []complaint
}

type complaint struct {
	line, column int
	text         string
}

func (d *decoder) fail(n *yaml.Node, key, text string) {
	if n == nil {
		n = &yaml.Node{Line: 1, Column: 1}
	}
	d.found = append(d.found, complaint{n.Line, n.Column, fmt.Sprintf("%s:%d:%d: %s: %s", d.name, n.Line, n.Column, key, text)})
}

func (d *decoder) err() error {
	if len(d.found) == 0 {
		return nil
	}
	sort.SliceStable(d.found, func(i, j int) bool {
		a, b := d.found[i], d.found[j]
		return a.line < b.line || a.line == b.line && a.column < b.column
	})
	lines := make([]error, len(d.found))
	for i, c := range d.found {
		lines[i] = errors.New(c.text)
	}
	return fmt.Errorf("%w: %w", errors.Join(lines...), errdefs.ErrInvalidArgument)
}

func (d *decoder) value(n *yaml.Node, v reflect.Value, path string) {
	d.at[path] = n
	_, custom := reflect.TypeAssert[yaml.Unmarshaler](v.Addr())
	_, isDuration := reflect.TypeAssert[time.Duration](v)
	named, hasName := reflect.TypeAssert[*Handler](v.Addr())
	switch {
	case hasName && n.Kind == yaml.ScalarNode && !isNull(n):
		named.Name = n.Value
	case !custom && v.Kind() == reflect.Struct:
		d.mapping(n, v, path)
	case v.Kind() == reflect.Slice:
		d.sequence(n, v, path)
	default:
		if isNull(n) || n.Kind != yaml.ScalarNode {
			d.fail(n, path, "wants "+wants(v, isDuration))
			return
		}
		if err := n.Decode(v.Addr().Interface()); err != nil {
			if custom {
				d.fail(n, path, err.Error())
				return
			}
			d.fail(n, path, fmt.Sprintf("%q is not %s", n.Value, wants(v, isDuration)))
		}
	}
}

func (d *decoder) mapping(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.fail(n, orRoot(path), "wants keys and values: "+strings.Join(keysOf(v.Type()), ", "))
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, val := n.Content[i], n.Content[i+1]
		full := strings.TrimPrefix(path+"."+key.Value, ".")
		field, ok := fieldOf(v, key.Value)
		switch {
		case !ok:
			d.fail(key, full, unknownKey(key.Value, keysOf(v.Type())))
		case seen[key.Value]:
			d.fail(key, full, "is given twice")
		default:
			d.value(val, field, full)
		}
		seen[key.Value] = true
	}
}

func (d *decoder) sequence(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.SequenceNode {
		d.fail(n, path, "wants a list")
		return
	}
	out := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, item := range n.Content {
		d.value(item, out.Index(i), fmt.Sprintf("%s[%d]", path, i))
	}
	v.Set(out)
}

func fieldOf(v reflect.Value, key string) (reflect.Value, bool) {
	for i := range v.NumField() {
		if v.Type().Field(i).Tag.Get("yaml") == key {
			return v.Field(i), true
		}
	}
	return reflect.Value{}, false
}

func keysOf(t reflect.Type) []string {
	keys := make([]string, t.NumField())
	for i := range keys {
		keys[i] = t.Field(i).Tag.Get("yaml")
	}
	return keys
}

func wants(v reflect.Value, isDuration bool) string {
	if isDuration {
		return "a duration such as 10s"
	}
	switch v.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "a whole number"
	default:
		return "a text"
	}
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

func orRoot(path string) string {
	if path == "" {
		return "the file"
	}
	return path
}

// Validate judges a configuration that was changed after it was read, by flags.
func (c Config) Validate() error {
	var errs []error
	for _, p := range c.problems() {
		errs = append(errs, fmt.Errorf("%s: %s", p.key, p.text))
	}
	if len(errs) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %w", errors.Join(errs...), errdefs.ErrInvalidArgument)
}
