#!/usr/bin/env python3
"""Writes tests/fuzz/corpus/gguf: small GGUF files, good and broken, as seeds for the fuzzer."""
import os
import struct

HERE = os.path.dirname(os.path.abspath(__file__))
U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
FORMATS = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "B", U64: "Q",
           I64: "q", F64: "d"}


def text(value):
    return struct.pack("<Q", len(value)) + value.encode()


def value(kind, v):
    return text(v) if kind == STRING else struct.pack("<" + FORMATS[kind], v)


def scalar(key, kind, v):
    return text(key) + struct.pack("<I", kind) + value(kind, v)


def array(key, kind, values):
    head = text(key) + struct.pack("<IIQ", ARRAY, kind, len(values))
    return head + b"".join(value(kind, v) for v in values)


def tensor(name, dims, kind, offset):
    return (text(name) + struct.pack("<I", len(dims)) + b"".join(struct.pack("<Q", d) for d in dims) +
            struct.pack("<IQ", kind, offset))


def gguf(kvs=(), tensors=(), data=b"", version=3, align=32):
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(kvs)) + b"".join(kvs) + b"".join(tensors)
    return head + b"\0" * (-len(head) % align) + data


def main():
    out = os.path.join(HERE, "corpus", "gguf")
    os.makedirs(out, exist_ok=True)
    all_kinds = [scalar(f"k{kind}", kind, 1) for kind in FORMATS] + [scalar("s", STRING, "text")]
    arrays = [array(f"a{kind}", kind, [1, 0, 1]) for kind in FORMATS] + [array("as", STRING, ["x", "", "yz"])]
    vocabulary = [scalar("general.architecture", STRING, "llama"), scalar("llama.block_count", U32, 2),
                  scalar("tokenizer.ggml.model", STRING, "gpt2"),
                  array("tokenizer.ggml.tokens", STRING, ["a", "b", "ab"]),
                  array("tokenizer.ggml.merges", STRING, ["a b"])]
    one = [tensor("a", [2, 3], 0, 0)]
    files = {
        "empty": gguf(),
        "scalars": gguf(all_kinds),
        "arrays": gguf(arrays),
        "vocabulary": gguf(vocabulary),
        "tensor": gguf([], one, b"\1" * 24),
        "blocks": gguf([], [tensor("q", [256, 2], 12, 0), tensor("n", [8], 0, 288)], b"\2" * 320),
        "mxfp4": gguf([], [tensor("e", [32, 2, 2], 39, 0)], b"\3" * 68),
        "aligned8": gguf([scalar("general.alignment", U32, 8)], one + [tensor("b", [1], 30, 24)], b"\4" * 26,
                         align=8),
        "version2": gguf(vocabulary, one, b"\5" * 24, version=2),
        "split": gguf([scalar("split.no", U16, 0), scalar("split.count", U16, 2),
                       scalar("split.tensors.count", I32, 2)], one, b"\6" * 24),
        "big_endian": b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
        "short": gguf(vocabulary)[:-9],
        "overlap": gguf([], one + [tensor("b", [2, 3], 0, 0)], b"\7" * 64),
        "overflow": gguf([], [tensor("a", [1 << 62, 1], 0, 0)], b"\7" * 64),
        "nested": gguf([text("n") + struct.pack("<IIQ", ARRAY, ARRAY, 1) + struct.pack("<IQI", U32, 1, 7)]),
        "many": b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 1 << 60),
        "twice": gguf([scalar("a", U8, 1)] * 2),
        "bad_utf8": gguf([struct.pack("<Q", 2) + b"\xc3\x28" + struct.pack("<IB", U8, 1)]),
    }
    for name, data in files.items():
        with open(os.path.join(out, name), "wb") as f:
            f.write(data)
    print(f"{len(files)} files in {out}")


if __name__ == "__main__":
    main()
