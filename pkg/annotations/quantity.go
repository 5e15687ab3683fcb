// SPDX-License-Identifier: Apache-2.0

package annotations

import (
	"errors"
	"math/big"
	"regexp"
)

const quantityValues = "a number of bytes as Kubernetes writes quantities, such as 512Mi, 1.5G or 2e9"

// quantity is the form of a Kubernetes quantity (k8s.io/apimachinery, package resource,
// whose parser would bring more code than vmlet needs) without sign and without the
// fractions m, u and n: half a byte is no size.
var quantity = regexp.MustCompile(`^([0-9]{1,20}(?:\.[0-9]{1,20})?|\.[0-9]{1,20})([KMGTPE]i|[kMGTPE]|[eE][+-]?[0-9]{1,2})?$`)

// unit is a power of a base.
type unit struct{ base, power int64 }

var units = map[string]unit{
	"":  {1, 1},
	"k": {1000, 1}, "M": {1000, 2}, "G": {1000, 3}, "T": {1000, 4}, "P": {1000, 5}, "E": {1000, 6},
	"Ki": {1024, 1}, "Mi": {1024, 2}, "Gi": {1024, 3}, "Ti": {1024, 4}, "Pi": {1024, 5}, "Ei": {1024, 6},
}

// parseBytes reads a positive whole number of bytes.
func parseBytes(value string) (int64, error) {
	parts := quantity.FindStringSubmatch(value)
	if parts == nil {
		return 0, errors.New("is no quantity")
	}
	number, suffix := parts[1], parts[2]
	u, known := units[suffix]
	if !known { // an exponent
		number, u = number+suffix, units[""]
	}
	n, ok := new(big.Rat).SetString(number)
	if !ok {
		return 0, errors.New("is no number")
	}
	n.Mul(n, new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(u.base), big.NewInt(u.power), nil)))
	switch {
	case !n.IsInt():
		return 0, errors.New("is no whole number of bytes")
	case n.Sign() <= 0:
		return 0, errors.New("is not above zero")
	case !n.Num().IsInt64():
		return 0, errors.New("is out of range")
	}
	return n.Num().Int64(), nil
}
