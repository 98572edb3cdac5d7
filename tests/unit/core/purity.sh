#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# purity.sh LIBRARY: fails when an object of the pure core refers to a symbol that is neither the
# core's own nor on this list. A clock, a file, the heap or a thread could not get in unseen.
set -eu
base='hdl_assert_fail|hdl_assert_fail_values|hdl_hash_[a-z0-9]+|hdl_crc32c'
allowed="^($base|memcpy|memmove|memset|memcmp|bcmp)\$"
# What a compiler brings along by itself: sanitizers, coverage, the global offset table.
tools='^(__asan_|__ubsan_|__tsan_|__sanitizer_|__sancov_|__stack_chk_fail|_GLOBAL_OFFSET_TABLE_)'
more_tools='^(asan\.|__llvm_|__start___|__stop___)'
own=$(nm --defined-only "$1" 2>/dev/null | awk 'NF == 3 && $2 ~ /[TDBRVW]/ { print $3 }' | sort -u)
foreign=$(nm -u "$1" 2>/dev/null | awk '$1 == "U" { print $2 }' | sort -u |
    grep -Ev "$tools" | grep -Ev "$more_tools" | grep -Ev "$allowed" | grep -vxF "$own" || true)
if [ -n "$foreign" ]; then
    echo "the scheduler core is not pure; its objects refer to:" >&2
    echo "$foreign" >&2
    echo "take the call out, or pass its result in with the event" >&2
    exit 1
fi
test -n "$own" || { echo "no symbols in $1" >&2; exit 1; }
echo "pure: $(echo "$own" | wc -l) symbols of its own, none foreign"
