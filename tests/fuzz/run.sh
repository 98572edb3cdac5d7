#!/usr/bin/env bash
# Runs every fuzz target for some seconds (default 60), starting from its corpus. New finds stay in build/fuzz/corpus.
#   tests/fuzz/run.sh [SECONDS] [TARGET...]
set -uo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-60}
shift || true
cmake --preset fuzz >/dev/null && cmake --build --preset fuzz --target fuzz >/dev/null || exit 1
passed=0 failed=0
for target in build/fuzz/fuzz/fuzz_*; do
    name=$(basename "$target")
    what=${name#fuzz_}
    [ $# -eq 0 ] || [[ " $* " == *" $what "* ]] || continue
    mkdir -p "build/fuzz/corpus/$what"
    if "$target" -max_total_time="$seconds" -rss_limit_mb=4096 -timeout=10 -print_final_stats=1 \
        "build/fuzz/corpus/$what" "tests/fuzz/corpus/$what" >"build/fuzz/$name.log" 2>&1; then
        passed=$((passed + 1))
        printf 'ok   %-20s %s runs\n' "$what" "$(awk '/number_of_executed_units/{print $2}' "build/fuzz/$name.log")"
    else
        failed=$((failed + 1))
        tail -15 "build/fuzz/$name.log"
        echo "FAIL $what; build/fuzz/$name.log"
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
