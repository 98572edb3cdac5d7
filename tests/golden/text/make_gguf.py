#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Small GGUF vocabularies and what the tokenizers they were made of say about family_lines.json.

    python3 tests/golden/text/make_gguf.py        (needs the packages gguf, sentencepiece, protobuf and tokenizers)

llama.gguf and t5.gguf are SentencePiece models (BPE with byte fallback, Unigram) trained here, qwen35.gguf and tekken.gguf
come from the tokenizer.json of that name.  NAME.gguf.ids: for each line the ids of the text as plain text, and "text"
where decoding gives other text than the line; null where SentencePiece and the format part ways.
"""

import io
import json
from pathlib import Path

import gguf
import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Tokenizer

from families import RULES
from lines import CODE, SENTENCES, lines

HERE = Path(__file__).parent
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6


def train(model_type, **options):
    corpus = list(SENTENCES.values()) * 2 + CODE.splitlines() * 2 + [t.replace("\n", " ") for t in lines(600, seed=7)]
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus), model_writer=out, model_type=model_type, hard_vocab_limit=False, minloglevel=2,
        num_threads=1, **options)
    return out.getvalue()


def write_sentencepiece(path, kind, model):
    """What a converter writes of a SentencePiece model, and how SentencePiece itself encodes and decodes."""
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(model)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model(kind)
    writer.add_tokenizer_pre("default")
    writer.add_token_list([p.piece.encode() for p in proto.pieces])
    writer.add_token_scores([p.score for p in proto.pieces])
    writer.add_token_types([p.type for p in proto.pieces])
    writer.add_unk_token_id(proto.trainer_spec.unk_id)
    writer.add_eos_token_id(proto.trainer_spec.eos_id)
    writer.add_bos_token_id(proto.trainer_spec.bos_id)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(proto.normalizer_spec.add_dummy_prefix)
    if kind == "t5":
        writer.add_remove_extra_whitespaces(proto.normalizer_spec.remove_extra_whitespaces)
        writer.add_precompiled_charsmap(proto.normalizer_spec.precompiled_charsmap)
    finish(writer)
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    # SentencePiece shows an unknown token as " ⁇ "; here it is its own text, as in Hugging Face's.
    return processor.encode, lambda ids: processor.decode(ids).replace(" ⁇ ", "<unk>")


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def write_byte_level(path, source, pre):
    config = json.loads(source.read_text())
    # Hugging Face decodes added tokens through the byte alphabet, the format as they are written.
    config["added_tokens"] = [t for t in config["added_tokens"] if t["content"].isascii()]
    texts = {i: t for t, i in config["model"]["vocab"].items()}
    types = dict.fromkeys(texts, NORMAL)
    for token in config["added_tokens"]:
        texts[token["id"]] = token["content"]
        types[token["id"]] = CONTROL if token["special"] else USER_DEFINED
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list([texts[i].encode() for i in range(len(texts))])
    writer.add_token_types([types[i] for i in range(len(texts))])
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in config["model"]["merges"]])
    writer.add_add_bos_token(False)
    writer.add_eos_token_id(0)
    finish(writer)
    # What the format has no place for: tokens that take white space with them, or stand for whole words only.
    config["added_tokens"] = [{**t, "lstrip": False, "rstrip": False, "single_word": False, "normalized": False}
                              for t in config["added_tokens"]]
    config["post_processor"] = None
    tokenizer = Tokenizer.from_str(json.dumps(config))
    tokenizer.encode_special_tokens = True
    return lambda text: tokenizer.encode(text).ids, lambda ids: tokenizer.decode(ids, skip_special_tokens=False)


def build(folder):
    """name -> (encode, decode) of the files written into a folder."""
    def rules(text):
        path = folder / "rules.tsv"
        path.write_text(text)
        return str(path)
    return {
        "llama": write_sentencepiece(folder / "llama.gguf", "llama", train(
            "bpe", vocab_size=1500, byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
            character_coverage=0.98, split_digits=True, allow_whitespace_only_pieces=True)),
        "t5": write_sentencepiece(folder / "t5.gguf", "t5", train(
            "unigram", vocab_size=1100, normalization_rule_tsv=rules("\n".join(RULES) + "\n"), character_coverage=0.98)),
        "qwen35": write_byte_level(folder / "qwen35.gguf", HERE / "qwen35.json", "qwen35"),
        "tekken": write_byte_level(folder / "tekken.gguf", HERE / "tekken.json", "tekken"),
    }


def tied(name, decode, want, got):
    """SentencePiece adds scores as 32-bit floats, the format and Hugging Face as doubles: where two splits are as good as
    each other, rounding chooses.  Seen: the same tokens in another order."""
    return name == "t5" and sorted(want) == sorted(got) and decode(want) == decode(got)


def apart(name, text):
    """SentencePiece itself takes a written U+2581 for a space that it may drop."""
    return name == "t5" and "\u2581" in text


def main():
    import tempfile
    texts = json.loads((HERE / "family_lines.json").read_text())
    with tempfile.TemporaryDirectory() as folder:
        for name, (encode, decode) in build(Path(folder)).items():
            rows = []
            for text in texts:
                if apart(name, text):
                    rows.append(None)
                    continue
                ids = encode(text)
                rows.append({"ids": ids} if decode(ids) == text else {"ids": ids, "text": decode(ids)})
            (HERE / f"{name}.gguf").write_bytes((Path(folder) / f"{name}.gguf").read_bytes())
            (HERE / f"{name}.gguf.ids").write_text("[" + ",\n".join(json.dumps(r, separators=(",", ":")) for r in rows) + "]\n")
            print(f"{name}: {(HERE / f'{name}.gguf').stat().st_size} bytes")


if __name__ == "__main__":
    main()
