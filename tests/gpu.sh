#!/usr/bin/env bash
# Everything that needs a GPU, on a machine that has one. What has passed here may be said in README's matrix to have run
# on this GPU; nothing else may.
#
#   tests/gpu.sh                 all suites, at most 20 minutes once it is built; 5 more for compare, where it is asked for
#   tests/gpu.sh kernels models  only these
#   tests/gpu.sh --build         only what needs no GPU: compile, so that a machine with one is not kept waiting
#   tests/gpu.sh --fiber         the same script without a GPU: short forms on fibers, which prove the script and no speed
#   tests/gpu.sh --list
#
# Needs NVIDIA's driver, the CUDA toolkit and what quickstart.sh installs. Each suite has a limit in seconds: one that hangs
# costs no other. Logs are build/gpu/logs/<suite>.log; results go to bench/results/<gpu>-<date>.json where all suites ran (else
# beside the logs): add that file to the repository, tests/golden/matrix.py makes README's table of GPUs of it.
# For a comparison with others name what they run, and where they are:
#   MODEL=folder PYTHON=venv/bin/python GGUF=file.gguf LLAMA=llama.cpp/build/bin tests/gpu.sh compare
# The last line is `N passed, N failed, N skipped`.
set -uo pipefail
cd "$(dirname "$0")/.."
script=$PWD/tests/gpu.sh
PATH=$PATH:/usr/local/cuda/bin

suites=(check kernels models parallel score server kill sanitizer bench_kernels bench_model bench_serve compare)
declare -A about=(
    [check]="the plugin for all targets: no spills, no library missing; the GPU opens"
    [kernels]="the grid of tests/kernels on the GPU against ref"
    [models]="every golden configuration: the CPU's greedy tokens, the same bits for any chunk and batch"
    [parallel]="tp 2 and ep 2 on one GPU, over NCCL: one rank's logits bit for bit"
    [score]="the bundled model's held-out questions"
    [server]="10,000 mixed requests, some of whose clients leave: no block is missing at the end"
    [kill]="a rank of two dies by kill -9 under streams: they go on with the same tokens"
    [sanitizer]="compute-sanitizer's memcheck, racecheck and synccheck over the kernel grid"
    [bench_kernels]="heddle bench kernels: each op beside the read kernel and the best product"
    [bench_model]="heddle bench model: shapes of 8B, Qwen3-30B-A3B and gpt-oss-20b with made-up weights; energy per token"
    [bench_serve]="heddle bench serve against a server on the GPU"
    [compare]="transformers and llama.cpp in turn, where MODEL and GGUF name something to compare with"
)
declare -A limit=([check]=30 [kernels]=120 [models]=100 [parallel]=90 [score]=50 [server]=130 [kill]=80 [sanitizer]=120
    [bench_kernels]=120 [bench_model]=270 [bench_serve]=60 [compare]=300) # without compare under 1200 together
passed=0 failed=0 skipped=0

fail() { echo "tests/gpu.sh: $*" >&2; exit 2; }

# ---- what differs between a GPU and fibers ----

use_gpu() {
    build=build/gpu plugin=build/gpu/bin/libheddle_cuda.so model=deploy/demo-model bin=build/gpu/bin on=gpu
    kv=1GiB collectives=nccl
}

use_fiber() {
    build=build/release plugin=build/release/tests/libheddle_fiber.so model=build/gpu/tiny bin=build/release/bin on=fiber
    kv=64MiB collectives=auto
    for name in "${suites[@]}"; do limit[$name]=120; done
}

compile() {
    local cuda=ON
    [ $on = fiber ] && cuda=OFF
    mkdir -p "$logs"
    cmake -S . -B $build -G Ninja -DCMAKE_BUILD_TYPE=Release -DHDL_CUDA=$cuda >"$logs/build.log" 2>&1 &&
        cmake --build $build -j "$(nproc)" >>"$logs/build.log" 2>&1 || {
        tail -20 "$logs/build.log"
        fail "the build failed; $logs/build.log has all of it"
    }
}

# The device as programs are told of it; two.yaml is for two ranks, which meet over NCCL or not at all.
write_configs() {
    local device="worker: {device: cuda:0, cuda_plugin: $PWD/$plugin"
    printf '%s}\nkv: {bytes: %s}\n' "$device" $kv >build/gpu/one.yaml
    printf '%s, collectives: %s}\nkv: {bytes: %s}\n' "$device" $collectives $kv >build/gpu/two.yaml
}

# Programs whose workers each believe that they have a machine of their own: NCCL refuses two ranks on one GPU of one host.
make_own_hosts() {
    rm -rf build/gpu/own-hosts
    mkdir -p build/gpu/own-hosts
    local program
    for program in $bin/*; do
        [ "${program##*/}" = heddle-worker ] || ln "$program" build/gpu/own-hosts/ 2>/dev/null || cp "$program" build/gpu/own-hosts/
    done
    cat >build/gpu/own-hosts/heddle-worker <<EOF
#!/bin/sh
export NCCL_HOSTID=heddle-\$\$ NCCL_SOCKET_IFNAME=lo NCCL_IB_DISABLE=1 NCCL_MNNVL_ENABLE=0 NCCL_NVLS_ENABLE=0
exec $PWD/$bin/heddle-worker "\$@"
EOF
    chmod +x build/gpu/own-hosts/heddle-worker
}

prepare() {
    mkdir -p "$logs" build/gpu
    if [ $on = gpu ]; then
        gpu=$(nvidia-smi --query-gpu=name --format=csv,noheader -i 0 | tr ' /' '--')
        driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader -i 0)
    else
        gpu=fibers driver=none
        python3 tests/fault/tiny_model.py $model
    fi
    rm -f "$logs"/*.json "$logs"/suites.tsv
    write_configs
    make_own_hosts
}

# ---- suites: exit status 0 passed, 77 skipped ----

suite_check() {
    if [ $on = gpu ]; then
        ctest --test-dir $build -R 'heddle_test_cuda_build' --output-on-failure || return 1
    fi
    $build/tests/heddle_test_kernels --plugin $plugin --only add
}

suite_kernels() {
    [ $on = gpu ] && exec $build/tests/heddle_test_kernels --plugin $plugin
    local op
    for op in rms_norm router kv_copy; do $build/tests/heddle_test_kernels --plugin $plugin --only $op || return 1; done
}

suite_models() {
    local some=()
    [ $on = fiber ] && some=(llama-bias)
    $build/tests/heddle_test_worker_plugin $plugin "${some[@]}"
}

suite_parallel() {
    local tokens=512 variants="tp 2;ep 2;tp 2 ep 2;chunks of 7, tp 2;31 others, chunks of 7, tp 2 ep 2"
    [ $on = fiber ] && tokens=12 variants="tp 2;ep 2"
    python3 tests/golden/exact.py --bin build/gpu/own-hosts --model $model --config build/gpu/two.yaml --tokens $tokens \
        --variants "$variants"
}

suite_score() {
    local short=()
    [ $on = fiber ] && short=(--limit 1 --runs "tp 1")
    python3 tests/golden/score.py --bin $bin --config build/gpu/one.yaml "${short[@]}"
}

suite_server() {
    local n=10000 clients=128
    [ $on = fiber ] && n=200 clients=16
    python3 tests/fault/mixed_requests.py --bin $bin --model $model --config build/gpu/one.yaml --requests $n --clients $clients \
        --tokens $([ $on = fiber ] && echo 4 || echo 32) --log "$logs/server-heddle.log"
}

suite_kill() {
    local kills=4 streams=8 tokens=100
    [ $on = fiber ] && kills=1 streams=2 tokens=12
    python3 tests/fault/kill_workers.py --bin build/gpu/own-hosts --model $model --config build/gpu/two.yaml --tp 2 --ep 1 \
        --kills $kills --streams $streams --tokens $tokens --log "$logs/kill-heddle.log"
}

# The quick ops by every tool first. What the time does not allow is named, not failed.
suite_sanitizer() {
    [ $on = gpu ] || { echo "sanitizers of the host have run on the same kernels: tests/run.sh asan"; return 77; }
    command -v compute-sanitizer >/dev/null || { echo "no compute-sanitizer in PATH"; return 77; }
    local ops=(add kv_copy embed rms_norm glu qkv_rope router moe_combine sample linear attention moe_experts latent_rope gdn_conv gated_delta)
    local tool op missed='' end=$((SECONDS + limit[sanitizer] - 10))
    for op in "${ops[@]}"; do
        for tool in memcheck racecheck synccheck; do
            [ $SECONDS -lt $end ] || { missed+=" $op:$tool"; continue; }
            timeout $((end - SECONDS + 1)) compute-sanitizer --tool $tool --error-exitcode 9 --print-limit 5 \
                $build/tests/heddle_test_kernels --plugin $plugin --only $op
            case $? in
            0) ;;
            124) missed+=" $op:$tool" ;;
            *) return 1 ;;
            esac
        done
    done
    echo "no fault; not reached:${missed:- none}"
}

suite_bench_kernels() {
    local short=()
    [ $on = fiber ] && short=(--short)
    $bin/heddle bench kernels --config build/gpu/one.yaml --json "${short[@]}" >"$logs/kernels.json"
}

bench_shape() { # shape[:format] [numerics]
    local rows=(--pp 8192 --batch 1,32 --ctx 0,1024 --tg 128 --kv-bytes 16GiB)
    [ $on = fiber ] && rows=(--pp 8 --batch 1,2 --ctx 8 --tg 14 --kv-bytes 16MiB)
    local out=$logs/model-${1/:/-}${2:+-$2}.json
    $bin/heddle bench model --shape "$1" --numerics "${2:-exact}" --config build/gpu/one.yaml --json "${rows[@]}" >"$out" && echo "$*"
}

suite_bench_model() {
    local bad=0 shape shapes=(8b:bf16 8b:fp8 8b:q4 qwen3-30b-a3b gpt-oss-20b)
    [ $on = fiber ] && shapes=(tiny tiny-moe:q4)
    for shape in "${shapes[@]}"; do bench_shape $shape || bad=1; done
    bench_shape ${shapes[0]} fast || bad=1
    return $bad
}

suite_bench_serve() {
    local load=()
    [ $on = fiber ] && load=(--requests 4 --clients 2 --prompt 8 --answer 4)
    python3 bench/serve/on_device.py --bin $bin --model $model --config build/gpu/one.yaml --out "$logs/serve.json" "${load[@]}"
}

# A comparison of one engine: its name, what it runs, its arguments.
compare_with() {
    local more=(--batch 32 --rounds 3 --pp 512)
    [ $on = fiber ] && more=(--batch 2 --rounds 1 --pp 2 --tg 2 --eager)
    python3 bench/model/compare.py --config build/gpu/one.yaml --bin $bin --json "${more[@]}" "$2" "${@:3}" >"$logs/compare-$1.json"
}

suite_compare() {
    [ -n "${GGUF:-}${MODEL:-}" ] || { echo "MODEL and GGUF name nothing"; return 77; }
    local bad=0
    [ -z "${MODEL:-}" ] || compare_with transformers "$MODEL" --transformers "${PYTHON:-python3}" || bad=1
    [ -z "${GGUF:-}" ] || compare_with llama "$GGUF" --llama "${LLAMA:?the folder of llama-bench}" || bad=1
    return $bad
}

# ---- running them ----

# In a process group of its own, so that what hangs goes with all its children.
run_suite() {
    local name=$1 log=$logs/$1.log begin=$SECONDS state
    timeout -k 5 "${limit[$name]}" bash "$script" --one "$on" "$name" >"$log" 2>&1
    case $? in
    0) state=passed passed=$((passed + 1)) ;;
    77) state=skipped skipped=$((skipped + 1)) ;;
    124 | 137) state=failed failed=$((failed + 1)) && echo "it did not end within ${limit[$name]} s" >>"$log" ;;
    *) state=failed failed=$((failed + 1)) ;;
    esac
    printf '%s\t%s\t%d\n' "$name" $state $((SECONDS - begin)) >>"$logs/suites.tsv"
    printf '%-13s %-8s %4d s  %s\n' "$name" $state $((SECONDS - begin)) "$(tail -1 "$log" | cut -c1-100)"
    [ $state = failed ] && tail -15 "$log" | sed 's/^/    /'
    return 0
}

write_results() {
    local out=bench/results/$gpu-$(date -u +%F).json
    [ $on = gpu ] && [ "$1" -eq ${#suites[@]} ] || out=$logs/results.json
    python3 bench/results/collect.py "$logs" --gpu "$gpu" --driver "$driver" --out "$out"
}

if [ "${1:-}" = --list ]; then
    for name in "${suites[@]}"; do printf '%-13s at most %3d s  %s\n' "$name" "${limit[$name]}" "${about[$name]}"; done
    exit 0
fi
logs=build/gpu/logs
if [ "${1:-}" = --one ]; then
    "use_$2"
    "suite_$3"
    exit
fi
use_gpu
only_build=''
case ${1:-} in
--fiber) use_fiber && shift ;;
--build) only_build=yes && shift ;;
esac
for name in "$@"; do
    [ -n "${about[$name]:-}" ] || fail "there is no suite $name; --list names them"
done
if [ $on = gpu ] && [ -z "$only_build" ]; then
    command -v nvidia-smi >/dev/null || fail "there is no nvidia-smi; install NVIDIA's driver; on machines without a GPU tests/gpu.sh --fiber is all there is"
    nvidia-smi -i 0 >/dev/null || fail "the driver does not answer; nvidia-smi says why"
fi
compile
[ -n "$only_build" ] && exit 0
prepare
[ $# -gt 0 ] || set -- "${suites[@]}"
for name in "$@"; do run_suite "$name"; done
write_results $#
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
