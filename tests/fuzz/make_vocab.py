#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the seeds of the fuzz targets that read vocabularies: one small file of each kind, and some that lie.

    python3 tests/fuzz/make_vocab.py        (needs the packages gguf, sentencepiece, protobuf and tokenizers)
"""

import base64
import json
import sys
from pathlib import Path

import gguf

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
sys.path.insert(0, str(HERE.parent / "golden/text"))
from families import charsmap  # noqa: E402

RANKED = [bytes([i]) for i in range(256)] + [b"aa", b"aaaa", b"th", b"he", b"the", b" the", b"\xc3\xa9", b"\xe6\xbc"]
PIECES = ["▁", "a", "aa", "th", "▁th", "▁the", "e", "h", "t", "é", "q", "i", "k"]
BYTES = [f"<0x{b:02X}>" for b in range(256)]
RULES = ("FF21\t41", "FB01\t66 69", "1\t", "65 301\tE9")


def b64(data):
    return base64.b64encode(data).decode()


def put(folder, name, text):
    (CORPUS / folder).mkdir(exist_ok=True)
    (CORPUS / folder / name).write_text(text)


def tekken(specials, n_special=4):
    return json.dumps({
        "config": {"pattern": r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+", "default_vocab_size": len(RANKED) + n_special,
                   "default_num_special_tokens": n_special, "version": "v3"},
        "vocab": [{"rank": i, "token_bytes": b64(t), "token_str": None} for i, t in enumerate(RANKED)],
        "special_tokens": specials}, separators=(",", ":"))


def ranked():
    put("tekken", "whole", tekken([{"rank": i, "token_str": s, "is_control": True} for i, s in enumerate(("<unk>", "<s>", "</s>"))]))
    put("tekken", "old_specials", tekken(None, 24))
    put("tekken", "huge_size", '{"config":{"pattern":"a","default_vocab_size":4194304,"default_num_special_tokens":4194303,'
        '"version":"v3"},"vocab":[]}')
    put("tekken", "ranks", '{"config":{"pattern":"a","default_vocab_size":3,"default_num_special_tokens":1,"version":"v3"},"vocab":['
        '{"rank":0,"token_bytes":"YQ=="},{"rank":5,"token_bytes":"YQ=="}],"special_tokens":[{"rank":2,"token_str":"x"}]}')
    config = json.dumps({"auto_map": {"AutoTokenizer": ["tokenization_kimi.TikTokenTokenizer", None]}, "added_tokens_decoder": {
        str(len(RANKED)): {"content": "[BOS]", "special": True}, str(len(RANKED) + 1): {"content": "<|im_end|>", "special": False}}})
    put("tiktoken", "whole", config + "\n" + "".join(f"{b64(t)} {i}\n" for i, t in enumerate(RANKED)))
    put("tiktoken", "lines", config + "\nYQ== 0\r\n\nYg== 4194303\nYw==\n == 1")
    put("tiktoken", "other", '{"auto_map":{"AutoTokenizer":"x.Y"}}\nYQ== 0\n')


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def gguf_pieces(kind):
    writer = gguf.GGUFWriter(CORPUS / "gguf_vocab" / kind, "llama")
    writer.add_tokenizer_model(kind)
    writer.add_tokenizer_pre("default")
    pieces = [("<unk>", 2, 0.0), ("<s>", 3, 0.0), ("</s>", 3, 0.0), *((b, 6, 0.0) for b in BYTES),
              *((t, 1, -float(i)) for i, t in enumerate(PIECES)), ("<x>", 4, 0.0)]
    writer.add_token_list([p[0].encode() for p in pieces])
    writer.add_token_types([p[1] for p in pieces])
    writer.add_token_scores([p[2] for p in pieces])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(True)
    writer.add_add_space_prefix(True)
    writer.add_chat_template("{{ messages }}")
    if kind == "t5":
        writer.add_remove_extra_whitespaces(True)
        writer.add_precompiled_charsmap(base64.b64decode(charsmap(RULES)))
    finish(writer)


def gguf_bytes(pre):
    prints = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in prints]
    char = {b: chr(b) for b in prints} | {b: chr(256 + i) for i, b in enumerate(others)}
    texts = [char[b] for b in range(256)] + ["th", "he", "Ġt", "Ġth", "aa"]
    writer = gguf.GGUFWriter(CORPUS / "gguf_vocab" / pre, "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list([t.encode() for t in texts] + [b"<|im_end|>", b"<x>"])
    writer.add_token_types([1] * len(texts) + [3, 4])
    writer.add_token_merges(["t h", "h e", "Ġ t", "Ġt h", "a a"])
    writer.add_eos_token_id(len(texts))
    writer.add_bos_token_id(len(texts) + 9)
    finish(writer)


def jsons():
    def put_json(name, model, **rest):
        config = {"added_tokens": [], "normalizer": None, "pre_tokenizer": None, "post_processor": None, **rest, "model": model}
        put("tokenizer_json", name, json.dumps(config, ensure_ascii=False, separators=(",", ":")))
    vocab = {t: i for i, t in enumerate(["<unk>", "<s>", "</s>", *BYTES, "▁", "a", "aa", "t", "h", "e", "th", "▁th", "▁the"])}
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": True}
    put_json("llama2", {"type": "BPE", "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True, "vocab": vocab,
                        "merges": ["a a", "t h", "▁ th", "▁th e"]},
             added_tokens=[{"id": 1, "content": "<s>", "special": True, "normalized": True},
                           {"id": 2, "content": "</s>", "special": True, "normalized": False}],
             normalizer={"type": "Sequence", "normalizers": [
                 {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
             decoder={"type": "Sequence", "decoders": [
                 {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
                 {"type": "Strip", "content": " ", "start": 1, "stop": 0}]})
    put_json("metaspace", {"type": "BPE", "unk_token": "<unk>", "fuse_unk": False, "byte_fallback": False,
                           "vocab": {t: i for t, i in vocab.items() if i < 3 or i > 258}, "merges": ["a a"]},
             pre_tokenizer=metaspace, post_processor={"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 1]},
             decoder=metaspace)
    put_json("unigram_rules", {"type": "Unigram", "unk_id": 0, "byte_fallback": False, "vocab": [
        ["<unk>", 0.0], ["</s>", 0.0], ["▁", -2.5], ["a", -3.0], ["aa", -3.5], ["the", -4], ["t", -5], ["é", -6]]},
             added_tokens=[{"id": 0, "content": "<unk>", "special": True}],
             normalizer={"type": "Precompiled", "precompiled_charsmap": charsmap(RULES).decode()},
             pre_tokenizer={"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace]}, decoder={"type": "Metaspace"})


def main():
    ranked()
    (CORPUS / "gguf_vocab").mkdir(exist_ok=True)
    for kind in ("llama", "t5", "bert"):
        gguf_pieces(kind)
    for pre in ("qwen2", "llama-bpe", "deepseek-llm", "bloom", "default", "kimi-k2", "nothing"):
        gguf_bytes(pre)
    jsons()


if __name__ == "__main__":
    main()
