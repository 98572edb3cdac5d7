#!/usr/bin/env bash
# From a fresh Debian 12 machine to a streamed answer: installs what is missing, builds, serves the
# bundled model on two workers, asks it something.
#   ./quickstart.sh            stays up and says how to talk to it; Ctrl-C stops everything
#   ./quickstart.sh --once     stops after the first answer; exit code 0 when all went well
#   ./quickstart.sh --port N   another port than 8080
#   ./quickstart.sh --cuda     builds the CUDA plugin, too, as it does where it finds a GPU and nvcc
set -euo pipefail
cd "$(dirname "$0")"

once=false
port=8080
cuda=false
[ -z "$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null)" ] || ! nvidia-smi -L >/dev/null 2>&1 || cuda=true
while [ $# -gt 0 ]; do
    case "$1" in
        --once) once=true ;;
        --cuda) cuda=true ;;
        --port) port=${2:?--port needs a number}; shift ;;
        -h|--help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *) echo "unknown option $1; known are --once, --cuda and --port N" >&2; exit 2 ;;
    esac
    shift
done

bin=build/release/bin
log=$(mktemp)

echo "1/3  Packages"
deploy/packages.sh build

echo "2/3  Build, into build/release"
targets=(heddle heddle-scheduler heddle-worker)
options=()
if $cuda; then
    options=(-DHDL_CUDA=ON) targets+=(heddle_cuda)
fi
if ! { cmake --preset release "${options[@]}" &&
       cmake --build --preset release --target "${targets[@]}"; } >"$log" 2>&1
then
    tail -40 "$log" >&2
    echo "the build failed; its last words are above, all of them are in $log" >&2
    exit 1
fi

echo "3/3  One scheduler, two workers that share the bundled model (tensor and expert parallel)"
while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
    port=$((port + 1)) # taken by another program
done
url=http://127.0.0.1:$port
"$bin/heddle" serve deploy/demo-model --tp 2 --ep 2 --port "$port" >"$log" 2>&1 &
serve=$!
stop() {
    kill -TERM "$serve" 2>/dev/null || true
    wait "$serve" 2>/dev/null || true
}
trap 'stop; rm -f "$log"; exit 130' INT TERM

question="What can you do?"
echo
echo "\$ heddle run $url \"$question\""
if ! "$bin/heddle" run "$url" "$question" --wait 60; then
    stop
    tail -20 "$log" >&2
    echo "no answer came; the server's last words are above, all of them are in $log" >&2
    exit 1
fi
echo

if $once; then
    stop
    rm -f "$log"
    exit 0
fi
cat <<EOT
It stays up at $url until Ctrl-C. Talk to it:

  $bin/heddle run $url
  curl $url/v1/chat/completions -H 'Content-Type: application/json' \\
    -d '{"model": "demo-model", "messages": [{"role": "user", "content": "What is 12 plus 30?"}], "stream": true}'

Any OpenAI client works with the base URL $url/v1. Kill a worker while it answers (pkill -9 -f
heddle-worker): the stream pauses and goes on with the same tokens.
EOT
wait "$serve"
