#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""ggml's block types: heddle's values against the gguf package's, bit for bit.

    python3 tests/oracle/ggml.py [--probe PROGRAM] [--blocks 20000] [--seed 1]

Writes tests/golden/ggml/blocks.bin (a few blocks of each type, and a checksum of every 32 values that they stand for) and
compares live on many random blocks, a quarter of them with scales that are zero, subnormal, largest, infinite or NaN.
"""
import argparse
import struct
import subprocess
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as T
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests/golden/ggml/blocks.bin"

# Where each type's f16 scales are.
TYPES = {T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0], T.Q2_K: [80, 82], T.Q3_K: [108],
         T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208], T.IQ4_NL: [0], T.IQ4_XS: [0], T.IQ2_XXS: [0], T.IQ3_XXS: [0],
         T.TQ1_0: [52], T.TQ2_0: [64], T.MXFP4: []}
EDGES = [0x0000, 0x8000, 0x0001, 0x8001, 0x03ff, 0x0400, 0x7bff, 0xfbff, 0x7c00, 0xfc00, 0x7e01, 0xfe00]
EXPONENTS = [0, 1, 2, 3, 126, 127, 250, 254, 255]
GOLDEN_BLOCKS = 4 + len(EDGES)


def name(kind):
    return "ggml-mxfp4" if kind == T.MXFP4 else kind.name.lower()


def blocks_of(kind, n, rng, edge_share):
    """Random bytes with scales that are normal numbers, except for a share of blocks."""
    size = GGML_QUANT_SIZES[kind][1]
    blocks = rng.integers(0, 256, (n, size), dtype=np.uint8)
    if kind == T.MXFP4:
        blocks[:, 0] = rng.integers(100, 150, n, dtype=np.uint8)
    for at in TYPES[kind]:
        half = rng.normal(0, 0.05, n).astype(np.float16)
        blocks[:, at:at + 2] = half.view(np.uint8).reshape(n, 2)
    for i in range(int(n * (1 - edge_share)), n):
        if kind == T.MXFP4:
            blocks[i, 0] = EXPONENTS[i % len(EXPONENTS)]
        for j, at in enumerate(TYPES[kind]):
            edge = EDGES[(i + j * (1 + i // len(EDGES))) % len(EDGES)]
            blocks[i, at:at + 2] = np.frombuffer(struct.pack("<H", edge), np.uint8)
    return blocks


def values_of(kind, blocks):
    """[n, values] as bits, every NaN the same."""
    with np.errstate(all="ignore"):
        values = dequantize(blocks, kind).astype(np.float32)
    bits = values.view(np.uint32).copy()
    bits[np.isnan(values)] = 0x7fc00000
    return bits


def crc32c(data, table=[]):
    if not table:
        for i in range(256):
            for _ in range(8):
                i = i >> 1 ^ (0x82f63b78 if i & 1 else 0)
            table.append(i)
    crc = 0xffffffff
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 255]
    return crc ^ 0xffffffff


def write_golden():
    rng = np.random.default_rng(20)
    out = b""
    for kind in TYPES:
        blocks = blocks_of(kind, GOLDEN_BLOCKS, rng, len(EDGES) / GOLDEN_BLOCKS)
        values = values_of(kind, blocks)
        label = name(kind).encode()
        out += struct.pack("<16sII", label, GOLDEN_BLOCKS, blocks.shape[1]) + blocks.tobytes()
        out += b"".join(struct.pack("<I", crc32c(unit.tobytes())) for unit in values.reshape(-1, 32))
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_bytes(out)
    print(f"{GOLDEN.relative_to(ROOT)}: {len(out)} bytes")


def compare(probe, kind, blocks):
    n = len(blocks)
    want = values_of(kind, blocks)
    head = struct.pack("<16sII", name(kind).encode(), n, blocks.shape[1])
    r = subprocess.run([probe], input=head + blocks.tobytes(), stdout=subprocess.PIPE, check=True)
    got = np.frombuffer(r.stdout, np.uint32).reshape(want.shape)
    wrong = np.argwhere(want != got)
    print(f"{kind.name}: {n} blocks, {len(wrong)} of {want.size} values differ")
    for block, i in wrong[:3]:
        print(f"  block {block} value {i}: want {want[block, i]:08x} got {got[block, i]:08x}; "
              f"bytes {blocks[block].tobytes().hex()}")
    return len(wrong)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--probe", default=str(ROOT / "build/release/tests/ggml_probe"))
    parser.add_argument("--blocks", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    write_golden()
    if not Path(args.probe).exists():
        print(f"no {args.probe}; build it to compare live")
        return 0
    rng = np.random.default_rng(args.seed)
    everything = np.arange(1 << 16, dtype=np.uint16).view(np.uint8).reshape(-1, 2)
    wrong = sum(compare(args.probe, kind, everything) for kind in (T.F16, T.BF16))
    wrong += sum(compare(args.probe, kind, blocks_of(kind, args.blocks, rng, 0.25)) for kind in TYPES)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
