#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes cases.safetensors: one small matrix in every layout of quantised checkpoints, as the tools pack it, and a checksum
of each row of what the tools read back.

  make.py [--awq PATH]     needs torch, transformers (5.x), compressed-tensors, safetensors; one thread

  NAME.<tensors of the layout>     e.g. nvfp4.w.weight, nvfp4.w.weight_scale
  NAME.sums                        i64[rows]: FNV-1a (32 bits) of the row's float32 values, -0 as +0

AWQ and GPTQ have no reader that runs here: theirs are written out below, as AutoAWQ's dequantize_gemm and GPTQModel's
dequantize_weight compute. --awq names a source tree of AutoAWQ, whose own function must then agree.
"""
import importlib.util
import os
import sys

import numpy as np
import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.config import CompressionFormat
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from safetensors.torch import save_file
from transformers.integrations import bitnet, finegrained_fp8, mxfp4

HERE = os.path.dirname(os.path.abspath(__file__))
E2M1 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
out = {}


def fnv(row):
    h = 0x811C9DC5
    for byte in (row + 0.0).numpy().tobytes():
        h = ((h ^ byte) * 0x01000193) & 0xFFFFFFFF
    return h


def case(name, tensors, values):
    values = values.float().contiguous()
    out[f"{name}.sums"] = torch.tensor([fnv(row) for row in values], dtype=torch.int64)
    for key, tensor in tensors.items():
        out[f"{name}.{key}"] = tensor.contiguous()


def random(*shape):
    return torch.randn(*shape) * 0.05


# ---- FP8 -------------------------------------------------------------------------------------------------------------


def blocks(x, rows, cols):
    """Each block's largest magnitude, as a grid."""
    high, wide = -(-x.shape[0] // rows), -(-x.shape[1] // cols)
    padded = torch.zeros(high * rows, wide * cols)
    padded[: x.shape[0], : x.shape[1]] = x.abs()
    return padded.reshape(high, rows, wide, cols).amax(dim=(1, 3)).clamp(min=1e-6)


def spread(grid, rows, cols, shape):
    return grid.repeat_interleave(rows, 0).repeat_interleave(cols, 1)[: shape[0], : shape[1]]


def fp8(x, grid, rows, cols):
    return (x / spread(grid, rows, cols, x.shape)).clamp(-448, 448).to(torch.float8_e4m3fn)


def make_fp8():
    x = random(152, 320)
    grid = blocks(x, 128, 128) / 448
    codes = fp8(x, grid, 128, 128)
    case("fp8_block", {"w.weight": codes, "w.weight_scale_inv": grid},
         finegrained_fp8._dequantize_fp8_weight(codes, grid, [128, 128], torch.float32))
    ue8m0 = torch.exp2(torch.ceil(torch.log2(grid))).to(torch.float8_e8m0fnu)
    codes = fp8(x, ue8m0.float(), 128, 128)
    case("fp8_ue8m0", {"w.weight": codes, "w.weight_scale_inv": ue8m0},
         finegrained_fp8._dequantize_fp8_weight(codes, ue8m0, [128, 128], torch.float32))
    scale = (x.abs().max() / 448).reshape(1)
    codes = fp8(x, scale.reshape(1, 1), 512, 512)
    case("fp8_tensor", {"w.weight": codes, "w.weight_scale": scale, "w.input_scale": torch.ones(1)},
         codes.float() * scale)


# ---- compressed-tensors ------------------------------------------------------------------------------------------------


def compressed(name, fmt, args, shape, prepare):
    args = QuantizationArgs(**args)
    scheme = QuantizationScheme(targets=["Linear"], weights=args)
    compressor = BaseCompressor.get_value_from_registry(fmt)
    state = {"weight": random(*shape)}
    prepare(state, args)
    packed = compressor.compress(dict(state), scheme)
    # Its own reader computes in the scales' type, some in bf16; ours is held to f32 arithmetic on what the files hold.
    values = values_of(packed, args, shape)
    theirs = compressor.decompress(dict(packed), scheme)["weight"].float()
    assert (theirs - values).norm() < 4e-3 * values.norm(), f"compressed-tensors reads other values of {name}"
    case(name, {f"w.{k}": v for k, v in packed.items()}, values)


def values_of(packed, args, shape):
    fmt_float = args.type == "float"
    if "weight_packed" in packed and fmt_float:
        code = torch.stack([packed["weight_packed"] & 15, packed["weight_packed"] >> 4], -1).reshape(shape).long()
        values = E2M1[code & 7] * torch.where(code & 8 != 0, -1.0, 1.0)
    elif "weight_packed" in packed:
        from compressed_tensors.compressors.pack_quantized.helpers import unpack_from_int32
        values = unpack_from_int32(packed["weight_packed"], args.num_bits, torch.Size(shape)).float()
        if "weight_zero_point" in packed:
            zero_shape = torch.Size((shape[0], packed["weight_scale"].shape[1]))
            zero = unpack_from_int32(packed["weight_zero_point"], args.num_bits, zero_shape, packed_dim=0).float()
            values = values - zero.repeat_interleave(shape[1] // zero.shape[1], 1)
    else:
        values = packed["weight"].float()
    scale = packed["weight_scale"]
    scale = torch.exp2(scale.float() - 127) if scale.dtype == torch.uint8 else scale.float()
    if "weight_global_scale" in packed:
        scale = scale / packed["weight_global_scale"].float()
    if scale.numel() > 1:
        scale = scale.reshape(shape[0], -1)
        scale = scale.repeat_interleave(shape[1] // scale.shape[1], 1)
    return values * scale


def int_scales(state, args):
    x = state["weight"]
    groups = x.shape[1] // args.group_size if args.group_size else 1
    x = x.reshape(x.shape[0], groups, -1)
    half = 2 ** (args.num_bits - 1)
    if args.symmetric:
        state["weight_scale"] = (x.abs().amax(2) / (half - 0.5)).bfloat16()
        state["weight_zero_point"] = torch.zeros(x.shape[:2], dtype=torch.int8)
        return
    low, high = x.amin(2).clamp(max=0), x.amax(2).clamp(min=0)
    state["weight_scale"] = ((high - low) / (2 * half - 1)).bfloat16()
    state["weight_zero_point"] = (-half - low / state["weight_scale"].float()).round().clamp(-half, half - 1).to(torch.int8)


def nvfp4_scales(state, args):
    x = state["weight"].reshape(state["weight"].shape[0], -1, 16).abs().amax(2)
    total = (448 * 6 / x.max()).float().reshape(1)
    state["weight_global_scale"] = total
    state["weight_scale"] = (x / 6 * total).clamp(max=448).to(torch.float8_e4m3fn).float()


def mx_scales(largest):
    def prepare(state, args):
        x = state["weight"].reshape(state["weight"].shape[0], -1, 32).abs().amax(2)
        state["weight_scale"] = torch.exp2(torch.ceil(torch.log2(x / largest)))
    return prepare


def float_scales(state, args):
    x = state["weight"].abs()
    x = x.amax(1, keepdim=True) if args.strategy == "channel" else x.max().reshape(1)
    state["weight_scale"] = (x / 448).bfloat16()


def make_compressed():
    pack, f = CompressionFormat.pack_quantized.value, CompressionFormat
    group = {"num_bits": 4, "type": "int", "strategy": "group"}
    compressed("int4_g32", pack, {**group, "group_size": 32, "symmetric": True}, (24, 128), int_scales)
    compressed("int4_g128", pack, {**group, "group_size": 128, "symmetric": True}, (8, 256), int_scales)
    compressed("int4_zero", pack, {**group, "group_size": 64, "symmetric": False}, (24, 128), int_scales)
    compressed("int4_channel", pack, {"num_bits": 4, "type": "int", "strategy": "channel", "symmetric": True}, (8, 96),
               int_scales)
    compressed("int8_packed", pack, {**group, "num_bits": 8, "group_size": 32, "symmetric": True}, (8, 64), int_scales)
    compressed("int8", f.int_quantized.value, {"num_bits": 8, "type": "int", "strategy": "channel", "symmetric": True},
               (8, 96), int_scales)
    compressed("fp8_channel", f.float_quantized.value, {"num_bits": 8, "type": "float", "strategy": "channel"}, (24, 64),
               float_scales)
    compressed("nvfp4", f.nvfp4_pack_quantized.value,
               {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16}, (24, 128), nvfp4_scales)
    compressed("mxfp4", f.mxfp4_pack_quantized.value,
               {"num_bits": 4, "type": "float", "strategy": "group", "group_size": 32}, (24, 128), mx_scales(6))
    # modelopt's NVFP4 is the same with the reciprocal of the global scale.
    x = {k.removeprefix("nvfp4.w."): v for k, v in out.items() if k.startswith("nvfp4.w.")}
    scale = 1 / x["weight_global_scale"]
    code = torch.stack([x["weight_packed"] & 15, x["weight_packed"] >> 4], -1).reshape(24, 128).long()
    values = E2M1[code & 7] * torch.where(code & 8 != 0, -1.0, 1.0)
    case("nvfp4_modelopt", {"w.weight": x["weight_packed"].clone(), "w.weight_scale": x["weight_scale"].clone(),
                            "w.weight_scale_2": scale.reshape(())},
         values * (x["weight_scale"].float() * scale).repeat_interleave(16, 1))


# ---- gpt-oss, BitNet ---------------------------------------------------------------------------------------------------


def make_mxfp4():
    codes = torch.randint(0, 256, (2, 24, 4, 16), dtype=torch.uint8)
    scales = torch.randint(118, 126, (2, 24, 4), dtype=torch.uint8)
    values = mxfp4.convert_moe_packed_tensors(codes, scales, dtype=torch.float32)  # [experts, columns, rows]
    case("mxfp4_experts", {"w_blocks": codes, "w_scales": scales}, values[1].T)


def make_bitnet():
    ternary = torch.randint(-1, 2, (16, 64), dtype=torch.int8)
    packed = bitnet.pack_weights(ternary.clone())
    torch.compile = lambda f: f
    scale = torch.tensor([1.21875], dtype=torch.bfloat16)
    values = bitnet.unpack_weights.__wrapped__(packed, torch.float32) if hasattr(
        bitnet.unpack_weights, "__wrapped__") else bitnet.unpack_weights(packed, torch.float32)
    case("bitnet", {"w.weight": packed, "w.weight_scale": scale}, values * (1 / scale.float()))
    case("bitnet_auto", {"w.weight": packed.clone(), "w.weight_scale": scale.clone()}, values * scale.float())


# ---- AWQ, GPTQ ---------------------------------------------------------------------------------------------------------


def awq_words(x):
    order = [0, 2, 4, 6, 1, 3, 5, 7]
    x = x.reshape(x.shape[0], -1, 8)[:, :, order].to(torch.int64)
    words = (x << torch.arange(0, 32, 4)).sum(2)
    return torch.from_numpy(words.numpy().astype(np.uint32).view(np.int32))


def make_awq(path):
    rows, cols, group = 24, 256, 128
    q, z = torch.randint(0, 16, (cols, rows)), torch.randint(0, 16, (cols // group, rows))
    scales = (torch.rand(cols // group, rows) * 0.02 + 0.001).half()
    qweight, qzeros = awq_words(q), awq_words(z)
    values = (q - z.repeat_interleave(group, 0)).float() * scales.float().repeat_interleave(group, 0)
    if path:
        spec = importlib.util.spec_from_file_location("p", os.path.join(path, "awq/utils/packing_utils.py"))
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        theirs = module.dequantize_gemm(qweight, qzeros, scales, 4, group)
        assert torch.equal(theirs, values.half()), "AutoAWQ reads other values"
        print("AutoAWQ agrees")
    case("awq", {"w.qweight": qweight, "w.qzeros": qzeros, "w.scales": scales}, values.T)


def words(x, bits, dim):
    """Packs neighbours along dim into words, the first lowest."""
    per = 32 // bits
    x = x.movedim(dim, -1).to(torch.int64)
    x = (x.reshape(*x.shape[:-1], -1, per) << torch.arange(0, 32, bits)).sum(-1)
    return torch.from_numpy(x.numpy().astype(np.uint32).view(np.int32)).movedim(-1, dim)


def make_gptq(name, bits, symmetric, act_order, v2=False):
    rows, cols, group = 16, 128, 64
    top = 2**bits
    g_idx = torch.arange(cols) // group
    if act_order:
        g_idx = g_idx[torch.randperm(cols)]
    q = torch.randint(0, top, (cols, rows))
    z = torch.full((cols // group, rows), top // 2) if symmetric else torch.randint(1, top, (cols // group, rows))
    scales = (torch.rand(cols // group, rows) * 0.02 + 0.001).half()
    values = scales.float()[g_idx] * (q - z[g_idx]).float()
    case(name, {"w.qweight": words(q, bits, 0), "w.qzeros": words(z if v2 else z - 1, bits, 1), "w.scales": scales,
                "w.g_idx": g_idx.to(torch.int32)}, values.T)


def main():
    torch.manual_seed(20261128)
    torch.set_num_threads(1)
    make_fp8()
    make_compressed()
    make_mxfp4()
    make_bitnet()
    make_awq(sys.argv[sys.argv.index("--awq") + 1] if "--awq" in sys.argv else None)
    make_gptq("gptq_sym", 4, True, False)
    make_gptq("gptq_zero", 4, False, False)
    make_gptq("gptq_v2", 4, False, False, v2=True)
    make_gptq("gptq_act", 4, False, True)
    make_gptq("gptq8", 8, True, False)
    make_gptq("gptq8_zero", 8, False, False)
    save_file(out, os.path.join(HERE, "cases.safetensors"))


if __name__ == "__main__":
    main()
