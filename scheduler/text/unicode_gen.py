#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the tables of unicode.c from Python's unicodedata.

    python3.6 scheduler/text/unicode_gen.py normalization     unicode_decompositions.c, unicode_classes.c
    python3 scheduler/text/unicode_gen.py lower               unicode_lower.c (needs the tokenizers package)

Hugging Face's normalizers carry the normalisation tables of Unicode 9.0, found by asking them about every code point; a
newer version would reorder marks that they leave alone.  Their lower case follows their compiler's Unicode, which is newer
than Python's: it is asked for.
"""

import sys
import unicodedata
from pathlib import Path

HANGUL = range(0xAC00, 0xD7A4)
CPS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]


HEAD = ("/* SPDX-License-Identifier: Apache-2.0 */\n"
        "/* Written by unicode_gen.py; not edited by hand. */\n"
        '#include "scheduler/text/unicode_tables.h"\n\n/* clang-format off */\n')


def write(name, parts):
    Path(__file__).with_name(name).write_text(HEAD + "\n" + "\n".join(parts))


def decomposition(c):
    text = unicodedata.decomposition(chr(c))
    return () if not text or text.startswith("<") else tuple(int(part, 16) for part in text.split())


def rows(items, width=100):
    line = "   "
    for item in items:
        if len(line) + 1 + len(item) > width:
            yield line
            line = "   "
        line += " " + item
    yield line


def table(declaration, items):
    return f"const {declaration} = {{\n" + "\n".join(rows([i + "," for i in items])) + "\n};\n"


def ranges(pairs):
    out = []
    for c, value in pairs:
        if out and out[-1][1] == c - 1 and out[-1][2] == value:
            out[-1][1] = c
        else:
            out.append([c, c, value])
    return out


def normalization():
    assert unicodedata.unidata_version == "9.0.0", sys.exit("run this with Python 3.6")
    decomposed = [(c, *(decomposition(c) + (0,))[:2]) for c in CPS if decomposition(c)]
    index = {row[0]: i for i, row in enumerate(decomposed)}
    composed = sorted(
        (row[1:], index[row[0]]) for row in decomposed
        if row[2] and unicodedata.normalize("NFC", chr(row[1]) + chr(row[2])) == chr(row[0]))
    seconds = {pair[1] for pair, _ in composed} | set(range(0x1161, 0x1176)) | set(range(0x11A8, 0x11C3))
    combining = [(c, unicodedata.combining(chr(c))) for c in CPS if unicodedata.combining(chr(c))]
    special = seconds | {c for c, _ in combining} | {c for c in CPS if unicodedata.normalize("NFC", chr(c)) != chr(c)}
    pages = max(special) // 256 + 1
    bitmaps, page_of = [(0,) * 8], []
    for page in range(pages):
        words = tuple(sum(1 << bit for bit in range(32) if page * 256 + word * 32 + bit in special) for word in range(8))
        if words not in bitmaps:
            bitmaps.append(words)
        page_of.append(bitmaps.index(words))
    decompositions = [
        f"const uint32_t hdl_uni_decomposed_n = {len(decomposed)}, hdl_uni_composed_n = {len(composed)};\n",
        table("hdl_uni_decomposition hdl_uni_decomposed[]", ["{0x%x,0x%x,0x%x}" % row for row in decomposed]),
        table("uint16_t hdl_uni_composed[]", [str(i) for _, i in composed]),
    ]
    classes = [
        f"const uint32_t hdl_uni_combining_n = {len(ranges(combining))};\n"
        f"const uint32_t hdl_uni_special_end = {pages * 256};\n",
        table("hdl_uni_class hdl_uni_combining[]", ["{0x%x,0x%x,%d}" % tuple(r) for r in ranges(combining)]),
        table("uint8_t hdl_uni_special_page[]", [str(p) for p in page_of]),
        table("uint32_t hdl_uni_special_bits[][8]", ["{" + ",".join(str(w) for w in b) + "}" for b in bitmaps]),
    ]
    write("unicode_decompositions.c", decompositions)
    write("unicode_classes.c", classes)
    assert len(bitmaps) < 256 and all(c not in HANGUL for c in special), sys.exit("tables do not fit their types")


def lower():
    from tokenizers import normalizers
    lowered = [(c, normalizers.Lowercase().normalize_str(chr(c))) for c in CPS]
    pairs = [(c, ord(to) - c) for c, to in lowered if len(to) == 1 and to != chr(c)]
    # Runs of letters with one distance, and runs of every second letter (upper, lower, upper, ...), are one row.
    runs = []
    for c, delta in pairs:
        if runs and runs[-1][3] == delta and c - runs[-1][1] in (1, 2) and runs[-1][2] in (0, c - runs[-1][1]):
            runs[-1][2] = c - runs[-1][1]
            runs[-1][1] = c
        else:
            runs.append([c, c, 0, delta])

    write("unicode_lower.c", [
        f"const uint32_t hdl_uni_lower_n = {len(runs)};\n",
        table("hdl_uni_lower_run hdl_uni_lower[]",
              ["{0x%x,0x%x,%d,%d}" % (first, last, step or 1, delta) for first, last, step, delta in runs])])


if __name__ == "__main__":
    {"normalization": normalization, "lower": lower}[sys.argv[1]]()
