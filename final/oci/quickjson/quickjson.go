// Package quickjson decodes JSON once. Package encoding/json prepares itself for each type
// with all that it leads to, which pays when more than one value is decoded: the first
// config.json takes it a millisecond, the second a twentieth of that. A runtime decodes one.
//
// The result is that of encoding/json for what a specification's types are made of.
// Whatever is unusual is left to encoding/json, errors as well.
package quickjson

import (
	"encoding/json"
	"errors"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Unmarshal is json.Unmarshal.
func Unmarshal(data []byte, v any) error {
	target := reflect.ValueOf(v)
	if target.Kind() != reflect.Pointer || target.IsNil() || !json.Valid(data) {
		return json.Unmarshal(data, v)
	}
	fresh := reflect.New(target.Type().Elem())
	fresh.Elem().Set(target.Elem())
	d := decoder{rest: string(data)}
	if err := d.value(fresh.Elem()); err != nil {
		return json.Unmarshal(data, v)
	}
	target.Elem().Set(fresh.Elem())
	return nil
}

// errUnusual sends a document to encoding/json.
var errUnusual = errors.New("not for this package")

// decoder reads text that is known to be valid.
type decoder struct{ rest string }

// next returns the first byte that is not white space, and leaves it.
func (d *decoder) next() byte {
	d.rest = strings.TrimLeft(d.rest, " \t\r\n")
	return d.rest[0]
}

// take takes one byte if it is the next.
func (d *decoder) take(c byte) bool {
	if d.next() != c {
		return false
	}
	d.rest = d.rest[1:]
	return true
}

var unmarshaler = reflect.TypeFor[json.Unmarshaler]()

func (d *decoder) value(v reflect.Value) error {
	c := d.next()
	if reflect.PointerTo(v.Type()).Implements(unmarshaler) {
		return d.own(c, v)
	}
	if c == 'n' {
		d.rest = d.rest[len("null"):]
		switch v.Kind() {
		case reflect.Pointer, reflect.Map, reflect.Slice, reflect.Interface:
			v.SetZero()
		}
		return nil
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		return d.value(v.Elem())
	case reflect.Struct:
		return d.object(c, func(key string) error {
			field, ok, err := fieldOf(v, key)
			if err != nil {
				return err
			}
			if !ok {
				return d.skip()
			}
			return d.value(field)
		})
	case reflect.Map:
		return d.mapping(c, v)
	case reflect.Slice:
		return d.slice(c, v)
	}
	return d.scalar(c, v)
}

// own lets a type decode itself.
func (d *decoder) own(c byte, v reflect.Value) error {
	before := d.rest
	if err := d.skip(); err != nil || c == 'n' {
		return errUnusual
	}
	text := before[:len(before)-len(d.rest)]
	self, ok := v.Addr().Interface().(json.Unmarshaler)
	if !ok {
		return errUnusual
	}
	return self.UnmarshalJSON([]byte(text))
}

// object calls for each key, when the decoder is at its value.
func (d *decoder) object(c byte, member func(key string) error) error {
	if c != '{' {
		return errUnusual
	}
	d.take('{')
	for !d.take('}') {
		key, err := d.text()
		if err != nil {
			return err
		}
		d.take(':')
		if err := member(key); err != nil {
			return err
		}
		d.take(',')
	}
	return nil
}

func (d *decoder) mapping(c byte, v reflect.Value) error {
	if v.Type().Key().Kind() != reflect.String {
		return errUnusual
	}
	if v.IsNil() {
		v.Set(reflect.MakeMap(v.Type()))
	}
	return d.object(c, func(key string) error {
		element := reflect.New(v.Type().Elem()).Elem()
		if err := d.value(element); err != nil {
			return err
		}
		v.SetMapIndex(reflect.ValueOf(key).Convert(v.Type().Key()), element)
		return nil
	})
}

func (d *decoder) slice(c byte, v reflect.Value) error {
	if c != '[' || v.Type().Elem().Kind() == reflect.Uint8 || v.Len() > 0 {
		return errUnusual // bytes are in base64
	}
	d.take('[')
	v.Set(reflect.MakeSlice(v.Type(), 0, 4))
	for !d.take(']') {
		n := v.Len()
		if n == v.Cap() {
			v.Grow(n)
		}
		v.SetLen(n + 1)
		v.Index(n).SetZero()
		if err := d.value(v.Index(n)); err != nil {
			return err
		}
		d.take(',')
	}
	return nil
}

func (d *decoder) scalar(c byte, v reflect.Value) error {
	switch kind := v.Kind(); {
	case kind == reflect.String && c == '"':
		s, err := d.text()
		v.SetString(s)
		return err
	case kind == reflect.Bool && c == 't':
		d.rest = d.rest[len("true"):]
		v.SetBool(true)
		return nil
	case kind == reflect.Bool && c == 'f':
		d.rest = d.rest[len("false"):]
		v.SetBool(false)
		return nil
	case v.CanInt():
		n, err := strconv.ParseInt(d.number(), 10, v.Type().Bits())
		v.SetInt(n)
		return err
	case v.CanUint():
		n, err := strconv.ParseUint(d.number(), 10, v.Type().Bits())
		v.SetUint(n)
		return err
	}
	return errUnusual
}

func (d *decoder) number() string {
	end := strings.IndexAny(d.rest, ",]} \t\r\n")
	if end < 0 {
		end = len(d.rest)
	}
	n := d.rest[:end]
	d.rest = d.rest[end:]
	return n
}

// text reads a string. One with escapes, or that is no UTF-8, is rare.
func (d *decoder) text() (string, error) {
	d.take('"')
	end := strings.IndexAny(d.rest, `"\`)
	s := d.rest[:end]
	if d.rest[end] == '"' && utf8.ValidString(s) {
		d.rest = d.rest[end+1:]
		return s, nil
	}
	for end = 0; d.rest[end] != '"'; end++ {
		if d.rest[end] == '\\' {
			end++
		}
	}
	err := json.Unmarshal([]byte(`"`+d.rest[:end+1]), &s)
	d.rest = d.rest[end+1:]
	return s, err
}

// skip leaves a value out.
func (d *decoder) skip() error {
	switch c := d.next(); c {
	case '{':
		return d.object(c, func(string) error { return d.skip() })
	case '[':
		d.take('[')
		for !d.take(']') {
			if err := d.skip(); err != nil {
				return err
			}
			d.take(',')
		}
		return nil
	case '"':
		_, err := d.text()
		return err
	}
	d.number()
	return nil
}

// fieldOf finds the field for a key: the one of exactly that name, or of that name in other
// case.
func fieldOf(v reflect.Value, key string) (reflect.Value, bool, error) {
	t := v.Type()
	other := -1
	for i := range t.NumField() {
		f := t.Field(i)
		tag := f.Tag.Get("json")
		if f.Anonymous || strings.Contains(tag, ",string") {
			return v, false, errUnusual
		}
		if tag == "-" || !f.IsExported() {
			continue
		}
		name, _, _ := strings.Cut(tag, ",")
		if name == "" {
			name = f.Name
		}
		if name == key {
			return v.Field(i), true, nil
		}
		if other < 0 && strings.EqualFold(name, key) {
			other = i
		}
	}
	if other >= 0 {
		return v.Field(other), true, nil
	}
	return v, false, nil
}
