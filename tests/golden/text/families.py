# SPDX-License-Identifier: Apache-2.0
"""Tokenizer configurations of the published families that are not byte-level BPE with a pattern of its own, and the
patterns of those that are.  make.py trains them on a small corpus; tests/oracle/text.py compares many lines."""

import base64
import io
import json

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

SPACE = "▁"
CL100K = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN35 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|"
          r"\s+(?!\S)|\s+")
TEKKEN = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|"
          r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|"
          r"\s*[\r\n]+|\s+(?!\S)|\s+")
BYTES = [f"<0x{b:02X}>" for b in range(256)]
CHAT = ("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|begin_of_text|>")

# Rewriting rules of a small charsmap: one to one, several to one, one to several, to nothing, and keys that begin others.
RULES = ("FF21\t41", "FF42\t62", "3000\t20", "2126\t3A9", "41 30A\tC5", "65 301\tE9", "FB01\t66 69", "1\t", "AD\t", "2028\tA",
         "F6\t6F 65", "20 20\t20", "1F600\t3A 29", "E9\t65 301", "1112 1161\tD558", "915 947\t916")


def charsmap(rules=None):
    """SentencePiece's compiled rules as base64: nmt_nfkc, as T5 and XLM-R carry them, or the given ones."""
    import tempfile
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2
    out = io.BytesIO()
    options = {"normalization_rule_name": "nmt_nfkc"}
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as file:
        if rules:
            file.write("\n".join(rules) + "\n")
            file.flush()
            options = {"normalization_rule_tsv": file.name}
        sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(["a b c ab abc cab bac"] * 50), model_writer=out,
                                                 vocab_size=20, hard_vocab_limit=False, minloglevel=2, **options)
    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(out.getvalue())
    return base64.b64encode(model.normalizer_spec.precompiled_charsmap)


def llama_decoder(strip=True):
    parts = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    return decoders.Sequence(parts + [decoders.Strip(" ", 1, 0)] if strip else parts)


def bos(tokenizer, token):
    return processors.TemplateProcessing(single=f"{token} $A", pair=f"{token} $A {token} $B",
                                         special_tokens=[(token, tokenizer.token_to_id(token))])


def fallback_bpe(corpus, size, train_pretok, special=("<unk>", "<s>", "</s>")):
    """BPE with byte fallback as converted from SentencePiece: <unk> <s> </s>, the bytes, then what was learned."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = train_pretok
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=[*special, *BYTES], show_progress=False, limit_alphabet=180)
    tokenizer.train_from_iterator([t.replace(" ", SPACE) for t in corpus], trainer)
    config = json.loads(tokenizer.to_str())
    config["added_tokens"] = config["added_tokens"][:len(special)]  # the bytes are ordinary tokens
    return Tokenizer.from_str(json.dumps(config))


def llama2(corpus, across=False):
    tokenizer = fallback_bpe(corpus, 1200, None if across else pre_tokenizers.Split(SPACE, "merged_with_next"))
    tokenizer.pre_tokenizer = None
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
    tokenizer.post_processor = bos(tokenizer, "<s>")
    tokenizer.decoder = llama_decoder()
    return tokenizer


def llama2_new(corpus):
    """As transformers converts Llama 2 and Mistral since it is no longer legacy."""
    tokenizer = llama2(corpus)
    tokenizer.normalizer = None
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, "first", False)
    return tokenizer


def phi3(corpus):
    tokenizer = llama2(corpus)
    tokenizer.add_special_tokens([AddedToken(t, rstrip=True, normalized=False) for t in ("<|system|>", "<|user|>", "<|end|>")])
    return tokenizer


def gemma(corpus):
    tokenizer = fallback_bpe(corpus, 1200, pre_tokenizers.Split(SPACE, "merged_with_next"),
                             ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"))
    tokenizer.normalizer = normalizers.Replace(" ", SPACE)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.post_processor = bos(tokenizer, "<bos>")
    tokenizer.decoder = llama_decoder(strip=False)
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in ("\n\n", "\n\n\n", "▁▁", "<table>")])
    return tokenizer


def unk_bpe(corpus):
    """No bytes to fall back to: unknown characters, not fused, and special tokens found in normalised text."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, "always", True)
    tokenizer.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=500, special_tokens=["<unk>"], show_progress=False,
                                                             limit_alphabet=70))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.decoder = decoders.Metaspace(SPACE, "always", True)
    tokenizer.add_special_tokens([AddedToken(t, normalized=True) for t in ("<|im_start|>", "<|im_end|>")])
    return tokenizer


def unigram(corpus, special, size=900, byte_fallback=False, rules=RULES):
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, "always", True)
    trainer = trainers.UnigramTrainer(vocab_size=size, special_tokens=list(special) + (BYTES if byte_fallback else []),
                                      unk_token="<unk>", show_progress=False, max_piece_length=12)
    tokenizer.train_from_iterator([t.replace("\n", " ")[:400] for t in corpus if t.isprintable() and len(set(t) - COVERED) < 3],
                                  trainer)
    config = json.loads(tokenizer.to_str())
    config["added_tokens"] = config["added_tokens"][:len(special)]
    config["model"]["byte_fallback"] = byte_fallback
    config["model"]["vocab"] = [[piece, round(score, 4)] for piece, score in config["model"]["vocab"]]
    if rules != ():
        config["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": charsmap(rules).decode()}
    return Tokenizer.from_str(json.dumps(config))


# What the Unigram vocabularies know: the others are unknown characters.
COVERED = set("".join(chr(c) for c in range(32, 127)) + "äöüßéèêçñ¿¡привет你好世界こんにちは")


def t5(corpus, rules=RULES):
    tokenizer = unigram(corpus, ("<pad>", "</s>", "<unk>"), rules=rules)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(SPACE, "always", True)])
    tokenizer.decoder = decoders.Metaspace(SPACE, "always", True)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return tokenizer


def xlmr(corpus, rules=RULES):
    tokenizer = unigram(corpus, ("<s>", "<pad>", "</s>", "<unk>"), rules=rules)
    tokenizer.decoder = decoders.Metaspace(SPACE, "always", True)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=False)
    return tokenizer


def unigram_bytes(corpus):
    """Unigram with byte fallback and the decoder of Llama's converter; no words are cut."""
    tokenizer = unigram(corpus, ("<unk>", "<s>", "</s>"), 1100, True, rules=())
    tokenizer.normalizer = normalizers.Replace(" ", SPACE)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, "first", False)
    tokenizer.decoder = llama_decoder()
    tokenizer.post_processor = bos(tokenizer, "<s>")
    return tokenizer


UNIGRAM = ("t5", "xlmr", "unigram_bytes")
FAMILIES = {
    "llama2": llama2, "llama2_across": lambda corpus: llama2(corpus, across=True), "llama2_new": llama2_new, "phi3": phi3,
    "gemma": gemma, "unk": unk_bpe, "t5": t5, "xlmr": xlmr, "unigram_bytes": unigram_bytes,
}
