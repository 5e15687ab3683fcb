# SPDX-License-Identifier: Apache-2.0
#
# Reads the YAML (so JSON too) that seeds are written in, into
#   value[PATH]             the scalar at PATH, e.g. value["ethernets/eth0/addresses/1"]
#   path[1], path[2] ...    all paths in the order of the document
# Lists count from 1. Not read: anchors, tags, complex keys, several documents, quoted scalars over several lines.
#
# Another program given with -f goes on in its END block.

{ sub(/\r$/, ""); line[NR] = $0 }

END {
	for (at = 1; at <= NR; at++) {
		text = line[at]
		if (text !~ /^[ \t]*(#|$)/ && text !~ /^(---|\.\.\.|%)/) {
			match(text, /^ */)
			block(RLENGTH, substr(text, RLENGTH + 1))
		}
	}
}

function store(p, v) { path[++paths] = p; value[p] = v }

# block takes one line of block style, indented by n. A level of the stack is a map or a list: its indent, its path, and
# how many items it has. `pending` is the path that a nested collection or a scalar on the next line belongs to.
function block(n, text,    rest, key) {
	while (depth && (indent[depth] > n || indent[depth] == n && list[depth] && text !~ /^-( |$)/)) depth--
	if (text ~ /^-( |$)/) {
		if (!depth || indent[depth] < n || !list[depth]) push(n, 1)
		pending = base[depth] "/" ++items[depth]
		sub(/^\//, "", pending)
		rest = text
		sub(/^-[ \t]*/, "", rest)
		if (rest ~ /^(#|$)/) return
		if (rest ~ /^-( |$)/ || take_key(rest) != "") block(n + length(text) - length(rest), rest)
		else scalar(n, pending, rest)
		return
	}
	key = take_key(text)
	if (key == "") {
		if (pending in value) value[pending] = value[pending] " " text
		else scalar(n, pending, text)
		return
	}
	if (!depth || indent[depth] < n || list[depth]) push(n, 0)
	pending = (base[depth] == "" ? "" : base[depth] "/") key
	if (after_key != "" && after_key !~ /^#/) scalar(n, pending, after_key)
}

function push(n, is_list) { depth++; indent[depth] = n; list[depth] = is_list; base[depth] = pending; items[depth] = 0 }

# take_key returns the key of "key: value", or "" if the text is none, and leaves the value in after_key.
function take_key(text,    key) {
	if (text ~ /^[[{|>]/) return ""
	if (text ~ /^["']/) {
		flow = text; pos = 1
		key = quoted()
		after_key = substr(text, pos)
		if (after_key !~ /^[ \t]*:([ \t]|$)/) return ""
		sub(/^[ \t]*:[ \t]*/, "", after_key)
		return key
	}
	if (!match(text, /:([ \t]|$)/)) return ""
	key = substr(text, 1, RSTART - 1)
	if (key ~ / #/) return ""
	after_key = substr(text, RSTART + 1)
	sub(/^[ \t]+/, "", after_key)
	return key
}

# scalar stores what stands at p: a scalar, or a collection in flow style, maybe over more lines.
function scalar(n, p, text) {
	if (text ~ /^[|>][-+0-9]*[ \t]*(#|$)/) { store(p, literal(n, text)); return }
	if (text ~ /^[[{]/) {
		while (!balanced(text) && at < NR) text = text "\n" line[++at]
	}
	flow = text; pos = 1
	flow_value(p, 0)
}

# literal returns the block scalar whose header is given, and moves on to its last line.
function literal(n, header,    folded, keep, strip, width, text, out, gap) {
	folded = header ~ /^>/; keep = header ~ /^[|>][0-9]*\+/; strip = header ~ /^[|>][0-9]*-/
	if (match(header, /[0-9]/)) width = n + substr(header, RSTART, 1)
	gap = ""
	for (; at < NR; at++) {
		text = line[at + 1]
		if (text ~ /^[ \t]*$/ && (!width || length(text) <= width)) { gap = gap "\n"; continue }
		match(text, /^ */)
		if (!width && RLENGTH > n) width = RLENGTH
		if (!width || RLENGTH < width) break
		text = substr(text, width + 1)
		if (out == "") out = gap text
		else if (folded && gap == "") out = out " " text
		else out = out (folded ? "" : "\n") gap text
		gap = ""
	}
	if (strip) return out
	return out (out == "" && gap == "" ? "" : "\n") (keep ? gap : "")
}

# balanced succeeds when every bracket outside quotes is closed.
function balanced(text,    i, c, open, quote) {
	for (i = 1; i <= length(text); i++) {
		c = substr(text, i, 1)
		if (quote != "") {
			if (c == "\\" && quote == "\"") i++
			else if (c == quote) quote = ""
		} else if (c == "\"" || c == "'") quote = c
		else if (c == "#" && substr(text, i - 1, 1) ~ /[ \t]/) i += index(substr(text, i) "\n", "\n") - 1
		else if (c ~ /[[{]/) open++
		else if (c ~ /[]}]/) open--
	}
	return open <= 0
}

# blanks skips what stands between two things, comments too.
function blanks(    c) {
	while (1) {
		c = substr(flow, pos, 1)
		if (c == "#") pos += index(substr(flow, pos) "\n", "\n") - 1
		else if (c == " " || c == "\t" || c == "\n") pos++
		else return
	}
}

# flow_value stores the value at `pos` of `flow`. Inside brackets a plain scalar ends at one of ,]} too.
function flow_value(p, inside,    c, i, key) {
	blanks()
	c = substr(flow, pos, 1)
	if (c == "[") {
		pos++
		for (i = 1; ; i++) {
			blanks()
			if (pos > length(flow) || substr(flow, pos, 1) == "]") break
			flow_value((p == "" ? "" : p "/") i, 1)
			blanks()
			if (substr(flow, pos, 1) == ",") pos++
		}
		pos++
	} else if (c == "{") {
		pos++
		while (1) {
			blanks()
			if (pos > length(flow) || substr(flow, pos, 1) == "}") break
			key = substr(flow, pos, 1) ~ /["']/ ? quoted() : plain(":")
			blanks()
			if (substr(flow, pos, 1) == ":") pos++
			flow_value((p == "" ? "" : p "/") key, 1)
			blanks()
			if (substr(flow, pos, 1) == ",") pos++
		}
		pos++
	} else if (c == "\"" || c == "'") store(p, quoted())
	else {
		c = plain(inside ? "," : "")
		store(p, c ~ /^(null|~)$/ ? "" : c)
	}
}

# plain takes an unquoted scalar: up to a comment, and inside a flow collection up to what ends it there.
function plain(stop,    rest, end) {
	rest = substr(flow, pos)
	end = length(rest)
	if (stop == "," && match(rest, /[],}\n]/)) end = RSTART - 1
	if (stop == ":" && match(rest, /[:,}\n]/)) end = RSTART - 1
	if (match(rest, /[ \t]#/) && RSTART - 1 < end) end = RSTART - 1
	# Something has to be taken, or a malformed document is never done.
	pos += end ? end : 1
	rest = substr(rest, 1, end)
	sub(/[ \t]+$/, "", rest)
	return rest
}

# quoted takes the quoted scalar at `pos`.
function quoted(    quote, c, out) {
	quote = substr(flow, pos++, 1)
	for (; pos <= length(flow); pos++) {
		c = substr(flow, pos, 1)
		if (c == quote) {
			if (quote == "\"" || substr(flow, pos + 1, 1) != quote) { pos++; break }
			pos++
		} else if (c == "\\" && quote == "\"") {
			c = substr(flow, ++pos, 1)
			if (c in escape) c = escape[c]
		}
		out = out c
	}
	return out
}

BEGIN { escape["n"] = "\n"; escape["t"] = "\t"; escape["r"] = "\r"; escape["0"] = ""; escape["e"] = "\033"; escape["_"] = " " }
