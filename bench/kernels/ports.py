#!/usr/bin/env python3
"""What the loops of compiled matrix kernels cannot be faster than, on CPUs that are not here.

    bench/kernels/ports.py FILE.o KERNEL[:N]... [--mca]      (llvm-mca-19 for --mca)

Counts the instructions of a kernel's outer loop, its inner loop taken N times (integers: a group's length / 8), and divides
by what a core can start in a cycle (published instruction tables). A prediction: nothing here was measured.
"""
import argparse
import re
import shutil
import subprocess
import sys

DOT = r"vpdpbusd|vdpbf16ps"
MULTIPLY = r"vfn?madd|vmul"
SHUFFLE = r"vpshufb|vperm|vpbroadcast[bwd] %[er]"
SHIFT = r"vpsr|vpsl"
OTHER = r"vcvt|vpand|vpor|vpadd|vpsub|vadd|vpmadd|vpmul|vpdpw"


def code_of(listing, name):
    found = re.search(rf"^[0-9a-f]+ <{name}>:\n(.*?)(\n\n|\Z)", listing, re.M | re.S)
    if not found:
        sys.exit(f"there is no kernel {name} in that file")
    lines = [re.sub(r"\s*#.*", "", line).partition(":\t") for line in found.group(1).split("\n")]
    return [(int(at, 16), text.strip()) for at, _, text in lines if text.strip()]


def outer_loop(code, times):
    """Instructions of one pass of the loop with the most dots, the longest of these; loops inside of it taken `times`."""
    index = {at: n for n, (at, _) in enumerate(code)}
    loops = {}
    for n, (_, text) in enumerate(code):
        jump = re.match(r"j\w+\s+([0-9a-f]+)", text)
        to = index.get(int(jump.group(1), 16)) if jump else None
        if to is not None and to <= n:
            loops[to] = max(n, loops.get(to, n))
    first = max(loops, key=lambda at: (sum(1 for _, t in code[at:loops[at]] if re.match(DOT, t)), loops[at] - at))
    out, n = [], first
    while n <= loops[first]:
        end = loops.get(n) if n != first else None
        out += [t for _, t in code[n:end + 1]] * times if end else [code[n][1]]
        n = end + 1 if end else n + 1
    return [t for t in out if not re.match(r"j\w+ ", t)]


def count(loop):
    def of(pattern):
        return sum(1 for t in loop if re.match(pattern, t) and "zmm" in t)

    memory = [t for t in loop if "(" in t and not t.startswith(("lea", "nop"))]
    stores = sum(1 for t in memory if re.search(r",-?[0-9a-fx]*\([^)]*\)$", t) and t.startswith(("vmov", "mov ")))
    return {"bf16": of("vdpbf16ps"), "dot": of(DOT), "mul": of(MULTIPLY), "shuffle": of(SHUFFLE), "shift": of(SHIFT),
            "other": of(OTHER), "store": stores, "load": len(memory) - stores, "all": len(loop)}


def zen4(c):
    """512 bits take two pipes of 256: one multiplication a cycle, two operations of any kind, one load, half a store."""
    vector = c["dot"] + c["mul"] + c["shuffle"] + c["shift"] + c["other"]
    return {"multiply": c["dot"] + c["mul"], "vector": vector / 2, "load": c["load"], "store": c["store"] * 2, "front": c["all"] / 6}


def sapphire(c):
    """Ports 0 and 5 take vectors of 512 bits; shifts port 0, shuffles port 5; two loads, one store, six instructions.
    vdpbf16ps takes a port twice."""
    vector = c["dot"] + c["bf16"] + c["mul"] + c["shuffle"] + c["shift"] + c["other"]
    return {"vector": vector / 2, "load": c["load"] / 2, "store": c["store"], "front": c["all"] / 6}


def mca(loop, cpu):
    out = subprocess.run(["llvm-mca-19", "-mtriple=x86_64", f"-mcpu={cpu}", "-iterations=100"], input="\n".join(loop),
                         capture_output=True, text=True).stdout
    return int(re.search(r"Total Cycles:\s+(\d+)", out).group(1)) / 100


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("kernels", nargs="+")
    parser.add_argument("--mca", action="store_true")
    a = parser.parse_args()
    if a.mca and not shutil.which("llvm-mca-19"):
        sys.exit("there is no llvm-mca-19; Debian's package llvm-19 has it")
    listing = subprocess.run(["objdump", "-d", "--no-show-raw-insn", a.file], capture_output=True, text=True, check=True).stdout
    print("| kernel | dots | instructions | loads | Zen 4: cycles, bound by, of peak | Sapphire Rapids |" + (" mca znver4, sapphirerapids |" if a.mca else ""))
    print("|---|--:|--:|--:|---|---|" + ("---|" if a.mca else ""))
    for kernel in a.kernels:
        name, _, times = kernel.partition(":")
        loop = outer_loop(code_of(listing, name), int(times or 1))
        c, cells = count(loop), []
        # a core's peak: Zen 4 starts a dot in a cycle; Sapphire Rapids two of bytes, one of bf16
        for bounds, peak in ((zen4(c), 1), (sapphire(c), 1 if c["bf16"] else 2)):
            by = max(bounds, key=bounds.get)
            cells.append(f"{bounds[by]:.0f}, {by}, {c['dot'] / bounds[by] / peak:.2f}")
        if a.mca:
            cells.append(f"{mca(loop, 'znver4'):.0f}, {mca(loop, 'sapphirerapids'):.0f}")
        print(f"| {name} | {c['dot']} | {c['all']} | {c['load']} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
