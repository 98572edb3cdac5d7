#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# no_spills.sh FILE...: the innermost loops of the matrix kernels (bf16_12x2, ..., scores_all) in these object files keep
# their accumulators in registers. A spilled one computes the same and takes twice as long, so no other test sees it.
#
# Per function: every backward jump makes a loop; a loop that multiplies vectors must not touch vectors on the stack.
set -eu
objdump -d --no-show-raw-insn "$@" | awk '
function check_loops(   i, j, multiplies, spills) {
    for (i = 1; i <= n; i++) {
        if (text[i] !~ /^j[a-z]+ / || !(split(text[i], word, " ") >= 2) || !(word[2] in line))
            continue
        multiplies = spills = 0
        for (j = line[word[2]]; j <= i; j++) {
            multiplies += text[j] ~ /^(vdpbf16ps|vpdpbusd|vpmaddwd|vpmaddubsw|vfmadd)/
            spills += text[j] ~ /[yz]mm/ && text[j] ~ /\(%r[sb]p/
            if (j < i && text[j] ~ /^j[a-z]+ /) { split(text[j], inner, " "); if (inner[2] in line && line[inner[2]] <= j) multiplies = -1000 }
        }
        if (multiplies > 0) { loops++; if (spills) { print "FAIL " name ": " spills " vectors on the stack in the loop at " word[2]; failed = 1 } }
    }
}
/^[0-9a-f]+ <.*>:$/ { if (name) check_loops(); name = ""; n = 0; delete line
                      if ($2 ~ /^<((f32|bf16|fp8|q[2468])[a-z0-9_]*_[0-9]+x[0-9]+|scores_all|values_all)>:$/) { name = $2; functions++ } next }
name && /^ +[0-9a-f]+:/ { address = $1; sub(":", "", address); sub(/^ +[0-9a-f]+:[ \t]+/, ""); n++; text[n] = $0; line[address] = n }
END { if (name) check_loops()
      print functions + 0 " kernels, " loops + 0 " inner loops"
      if (functions == 0 || loops < functions) { print "FAIL: found no loops in some kernels"; failed = 1 }
      exit failed }'
