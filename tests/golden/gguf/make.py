#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What llama.cpp's converter makes of the models of ../models: NAME.head of each NAME.json there, or of the NAME.json
here: the same with values that a GGUF file can say, where no key of it says others (a limit, a window).

  make.py LLAMA_CPP [NAME ...]   LLAMA_CPP: a checkout of llama.cpp, or the vendor/llama.cpp of the source package of
                                  llama-cpp-python; needs what ../models/make.py needs

Weights are the formula's, so the files hold only what the converter decided: NAME.head is the GGUF file (F32, without a
vocabulary) up to its tensors' data, then the CRC-32C of each tensor's data, in order, u32, then the data of tensors that
the converter made itself (rope_*) or computed (ssm_a). A test makes the other data anew from its own reading of names and row orders; the
checksums say whether that is the converter's.
"""
import json
import os
import struct
import sys
import tempfile
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "models"))
from make import PLUS_ONE, file_shapes, weight  # noqa: E402


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


# BitNet as llama.cpp knows it has other names of its inner norms.
RENAMED = {"self_attn.attn_sub_norm": "self_attn.inner_attn_ln", "mlp.ffn_sub_norm": "mlp.ffn_layernorm"}


def renamed(name):
    for ours, theirs in RENAMED.items():
        name = name.replace(ours, theirs)
    return name


def write_folder(folder, text):
    """A model folder with weights of the formula."""
    (folder / "config.json").write_text(text)
    config = transformers.AutoConfig.from_pretrained(folder)
    cls = getattr(transformers, config.architectures[0])
    plus_one = config.architectures[0].startswith(PLUS_ONE)
    tensors = {name: weight(name, shape, plus_one) for name, shape in file_shapes(cls, config).items()}
    tensors = {renamed(name): data for name, data in tensors.items()}
    save_file(tensors, str(folder / "model.safetensors"), {"format": "pt"})
    # Some classes count the tokens, to leave out embeddings of no token.
    vocab = {str(i): i for i in range(config.get_text_config().vocab_size)}
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocab}, "added_tokens": []}))


def convert(llama_cpp, folder, out):
    import gguf
    from conversion import ModelBase, ModelType, get_model_architecture, get_model_class
    hparams = ModelBase.load_hparams(folder, False)
    model_class = get_model_class(get_model_architecture(hparams, ModelType.TEXT))
    model_class.set_vocab = lambda self: None
    model_class.weight_quant = lambda self, weight: weight  # BitNet's, which would make other weights of them
    # Else one layer is taken for granted.
    model_class.no_mtp = "mtp_num_hidden_layers" not in hparams.get("text_config", hparams)
    for base in model_class.__mro__:  # what reads the vocabulary for another purpose
        if "get_vocab_base_pre" in vars(base):
            base.get_vocab_base_pre = lambda self, tokenizer: "default"
    with torch.inference_mode():
        model_class(folder, gguf.LlamaFileType.ALL_F32, out, eager=True).write()


def own(name):
    return name.startswith("rope_") or name.endswith(".ssm_a")


def make(llama_cpp, name):
    import gguf
    path = HERE / f"{name}.json"
    text = (path if path.exists() else HERE.parent / "models" / path.name).read_text()
    with tempfile.TemporaryDirectory() as temp:
        folder, out = Path(temp) / "model", Path(temp) / "model.gguf"
        folder.mkdir()
        write_folder(folder, text)
        convert(llama_cpp, folder, out)
        data = out.read_bytes()
        reader = gguf.GGUFReader(str(out))
        head = data[:reader.data_offset]
        sums = [crc32c(data[t.data_offset:t.data_offset + t.n_bytes]) for t in reader.tensors]
        made = b"".join(data[t.data_offset:t.data_offset + t.n_bytes] for t in reader.tensors if own(t.name))
        other = {t.tensor_type.name for t in reader.tensors} - {"F32"}
    (HERE / f"{name}.head").write_bytes(head + b"".join(struct.pack("<I", s) for s in sums) + made)
    print(f"{name}: {len(head)} bytes, {len(sums)} tensors {other or ''}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    checkout = Path(sys.argv[1])
    sys.path[:0] = [str(checkout), str(checkout / "gguf-py")]
    torch.set_num_threads(1)
    names = sys.argv[2:] or sorted(p.stem for p in HERE.glob("*.head"))
    for each in names:
        try:
            make(checkout, each)
        except (ValueError, NotImplementedError, KeyError, AssertionError) as e:
            print(f"{each}: the converter refuses it: {e}")
