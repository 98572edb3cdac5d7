#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# cuda_build.sh LIBRARY REPORT...: what the CUDA plugin must be on a machine without a GPU. REPORT is what `ptxas -v` said of a
# file, for every target.
#
#   - no kernel of any target spills registers: it would compute the same and be slow, so nothing else would notice
#   - every kernel was compiled for every target
#   - the library needs neither the driver nor a CUDA runtime to be loaded, and exports one symbol
set -eu
library=$1
shift
awk '
/Compiling entry function/ { split($0, part, "\047"); name = part[2]; target = part[4]; kernels[name] = 1; targets[target] = 1
                             built[name, target] = 1 }
/bytes spill stores/ { match($0, /[0-9]+ bytes spill stores/)
                       if (substr($0, RSTART, RLENGTH) + 0 > 0) { print "FAIL " name " (" target "):" $0; failed = 1 } }
END { for (k in kernels) { n++; for (t in targets) if (!((k, t) in built)) { print "FAIL " k " was not compiled for " t; failed = 1 } }
      for (t in targets) { n_targets++; all = all " " t }
      print n + 0 " kernels, " n_targets + 0 " targets:" all
      if (n < 20 || n_targets < 1) { print "FAIL: too few kernels in the reports"; failed = 1 }
      exit failed }' "$@"
if ldd "$library" | grep -E 'libcuda|libcudart|not found'; then
    echo "FAIL $library needs a library that machines without CUDA do not have"
    exit 1
fi
symbols=$(nm -D --defined-only "$library" | awk '{print $3}' | tr '\n' ' ')
if [ "$symbols" != "hdl_plugin_get " ]; then
    echo "FAIL $library exports $symbols; hdl_plugin_get alone is for others"
    exit 1
fi
