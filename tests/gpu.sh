#!/usr/bin/env bash
# Everything that needs a GPU, on a machine that has one, in the order of cost. What has passed here may be said in README's
# matrix to have run on this GPU; nothing else may.
#
#   tests/gpu.sh                 build, build check, kernels, models, score, server, memory checks
#   tests/gpu.sh kernels models  only these
#   tests/gpu.sh --list
#
# Needs NVIDIA's driver, the CUDA toolkit and what quickstart.sh installs. With the plugin built before it takes at most 20
# minutes. The last line is `N passed, N failed, N skipped`; logs are build/gpu/logs/<suite>.log, the results go to
# bench/results/<gpu>-<date>.json: add them to the repository with the line of README's matrix that they prove.
set -uo pipefail
cd "$(dirname "$0")/.."

suites=(check kernels models score server sanitizer)
declare -A about=(
    [check]="the plugin for all targets: no spills, no library missing; the GPU opens"
    [kernels]="the grid of tests/kernels on the GPU against ref"
    [models]="every golden configuration: the CPU's greedy tokens, the same bits for any chunk and batch"
    [score]="the bundled model's held-out questions with --device cuda"
    [server]="the bundled model served from the GPU: streams, and a killed worker"
    [sanitizer]="compute-sanitizer's memcheck, racecheck and synccheck over the kernel grid"
)
build=build/gpu
logs=$build/logs
plugin=$build/bin/libheddle_cuda.so
passed=0 failed=0 skipped=0
rows=()

fail() { echo "tests/gpu.sh: $*" >&2; exit 2; }

prepare() {
    command -v nvidia-smi >/dev/null || fail "there is no nvidia-smi; install NVIDIA's driver; on machines without a GPU tests/run.sh is all there is"
    gpu=$(nvidia-smi --query-gpu=name --format=csv,noheader -i 0 | tr ' /' '--') || fail "the driver does not answer; nvidia-smi says why"
    mkdir -p "$logs"
    cmake -S . -B $build -G Ninja -DCMAKE_BUILD_TYPE=Release -DHDL_CUDA=ON >"$logs/build.log" 2>&1 &&
        cmake --build $build -j "$(nproc)" >>"$logs/build.log" 2>&1 || {
        tail -20 "$logs/build.log"
        fail "the build failed; $logs/build.log has all of it"
    }
}

suite_check() { # what ctest says of the build, and a device that opens
    ctest --test-dir $build -R 'heddle_test_cuda_build' --output-on-failure &&
        $build/tests/heddle_test_kernels --plugin $plugin --only add
}

suite_kernels() { $build/tests/heddle_test_kernels --plugin $plugin; }

suite_models() { $build/tests/heddle_test_worker_plugin $plugin; }

suite_score() { python3 tests/golden/score.py --bin $build/bin --device cuda; }

# An answer through the server; then the worker dies under a stream, which must end with the tokens that it would have had.
suite_server() {
    [ -x build/venv/bin/python ] || { echo "no build/venv; tests/run.sh api makes it"; return 77; }
    build/venv/bin/python tests/fault/kill_workers.py --bin $build/bin --tp 1 --ep 1 --kills 3 --device cuda
}

suite_sanitizer() {
    command -v compute-sanitizer >/dev/null || { echo "no compute-sanitizer in PATH"; return 77; }
    local tool
    for tool in memcheck racecheck synccheck; do
        compute-sanitizer --tool $tool --error-exitcode 9 --print-limit 5 \
            $build/tests/heddle_test_kernels --plugin $plugin || return 1
    done
}

run_suite() {
    local name=$1 log=$logs/$1.log begin=$SECONDS state
    "suite_$name" >"$log" 2>&1
    case $? in
    0) state=passed passed=$((passed + 1)) ;;
    77) state=skipped skipped=$((skipped + 1)) ;;
    *) state=failed failed=$((failed + 1)) ;;
    esac
    printf '%-10s %-8s %4d s  %s\n' "$name" $state $((SECONDS - begin)) "$(tail -1 "$log" | cut -c1-100)"
    rows+=("{\"suite\":\"$name\",\"state\":\"$state\",\"seconds\":$((SECONDS - begin))}")
}

write_results() {
    local joined
    joined=$(IFS=,; echo "${rows[*]}")
    printf '{"gpu":"%s","driver":"%s","commit":"%s","date":"%s","suites":[%s]}\n' "$gpu" \
        "$(nvidia-smi --query-gpu=driver_version --format=csv,noheader -i 0)" "$(git rev-parse --short HEAD)" \
        "$(date -u +%F)" "$joined" >"bench/results/$gpu-$(date -u +%F).json"
}

if [ "${1:-}" = --list ]; then
    for name in "${suites[@]}"; do printf '%-10s %s\n' "$name" "${about[$name]}"; done
    exit 0
fi
for name in "$@"; do
    [ -n "${about[$name]:-}" ] || fail "there is no suite $name; --list names them"
done
prepare
for name in "${@:-${suites[@]}}"; do run_suite "$name"; done
write_results
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
