package ipmi

import (
	"encoding/hex"
	"strings"
	"unicode"
	"unicode/utf16"
)

// Codings of text (IPMI 2.0, 43.15; Platform Management FRU Information Storage Definition, 13).
const (
	textUnicode byte = iota // in a sensor data record; binary in an inventory
	textBCD
	textSix
	textLatin
)

const bcdPlus = "0123456789 -.:,_"

// recordText reads the name at the end of a sensor data record, which begins with its kind and length. A length beyond the
// record's end is cut there: BMCs count characters as well as bytes.
func recordText(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	kind, n := b[0]>>6, int(b[0]&0x1F)
	b = b[1:]
	b = b[:min(n, len(b))]
	if kind == textUnicode {
		return wide(b)
	}
	return decodeText(kind, b)
}

// decodeText gives text as one printable line, without the padding that BMCs put around it. What is no text in an inventory it
// gives in hexadecimal; that is Unicode in a sensor data record, which is for wide.
func decodeText(kind byte, b []byte) string {
	var s strings.Builder
	switch kind {
	case textBCD:
		for _, c := range b {
			s.WriteByte(bcdPlus[c>>4])
			s.WriteByte(bcdPlus[c&0x0F])
		}
	case textSix: // four characters in three bytes, the first in the lowest bits
		for bit := 0; bit+6 <= 8*len(b); bit += 6 {
			v := uint16(b[bit/8])
			if bit/8+1 < len(b) {
				v |= uint16(b[bit/8+1]) << 8
			}
			s.WriteByte(' ' + byte(v>>(bit%8))&0x3F)
		}
	case textLatin:
		for _, c := range b {
			s.WriteRune(rune(c))
		}
	default:
		return hex.EncodeToString(b)
	}
	return clean(s.String())
}

// wide reads 16-bit characters, the low byte first.
func wide(b []byte) string {
	units := make([]uint16, 0, len(b)/2)
	for i := 0; i+1 < len(b); i += 2 {
		units = append(units, uint16(b[i])|uint16(b[i+1])<<8)
	}
	return clean(string(utf16.Decode(units)))
}

// clean ends a text at its first NUL and replaces what can't be shown.
func clean(s string) string {
	s, _, _ = strings.Cut(s, "\x00")
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s))
}
