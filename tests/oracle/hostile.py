#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How long templates take that mean harm: each has to be stopped with an error, within 100 ms.

    python3 tests/oracle/hostile.py [--probe PROGRAM] [--runs 3] [--only NAME] [-v]

Those of tests/golden/text/hostile.json, which tests/unit/text/test_hostile.c refuses too (without a clock); each built-in
again and again on large values; long sources. Time is measured from call to answer, the best of some runs, beside the
processor time of the program, which others on the machine change less.
"""
import argparse
import json
import sys
import time
from pathlib import Path

from templates import ROOT, Probe

LIMIT_MS = 100
HOSTILE = ROOT / "tests/golden/text/hostile.json"

# Sources that only take long to read.
LONG = {"comments": "{#" + "-#}{#" * 25000, "raw": "{% raw %}" + "{%   endra" * 12000, "strings": "{{ " + "'\\n' " * 25000 + "}}",
        "names": "{{ [" + "".join(f"a{i}, " for i in range(15000)) + "] }}", "text": "a\n{{ '' }}" * 12000,
        "too long": "{{ 1 }}" * 1000000}

# Whatever is done in a loop with something large.
LARGE = {"string": "'a' * 999 * 999", "spaces": "' ' * 999 * 999", "lines": "'a\\n' * 999 * 499", "list": "range(99999) | list",
         "strings": "['a' * 9999] * 99", "dicts": "[{'a': 'b' * 9999}] * 999", "tree": "n.a"}
FILTERS = ("trim upper lower capitalize title string length default tojson replace('a','bb') safe escape indent items abs int float round "
           "attr('a') list first last reverse join join(attribute='a') select reject selectattr('a') rejectattr('a') map('upper') "
           "map(attribute='a') sort sort(attribute='a') dictsort min max unique sum sum(attribute='a')").split()
TESTS = "eq(b) ne(b) sameas(b) in(b) lt(b) ge(b) lower upper".split()
METHODS = ("strip() strip('ab') lstrip() rstrip() split() split('b') rsplit('b') splitlines() startswith(b) endswith(b) removeprefix(b) "
           "replace('b','c') upper() lower() capitalize() title() find('b') rfind('b') count('b') join(['a','b']) format(1) isdigit() "
           "isalpha() isalnum() isspace() index(7) count(7)").split()


def expand(source):
    """A template from its pieces: texts, and [text, times] where @ stands for the turn's number."""
    return "".join(p if isinstance(p, str) else "".join(p[0].replace("@", str(i)) for i in range(p[1])) for p in source)


def systematic():
    """name -> template: each built-in, again and again, on each large value."""
    tree = "{% set n = namespace(a=['x']) %}{% for i in range(60) %}{% set n.a = [n.a, n.a] %}{% endfor %}"
    for what, value in LARGE.items():
        head = f"{tree if what == 'tree' else ''}{{% set a = {value} %}}{{% set b = {value} %}}{{% for i in range(99999) %}}"
        for filter_ in FILTERS:
            yield f"{what} | {filter_}", head + f"{{% set x = a | {filter_} | list %}}{{% endfor %}}"
            yield f"{what} | {filter_}, used", head + f"{{% set x = a | {filter_} %}}{{{{ x }}}}{{% endfor %}}"
        for test in TESTS:
            yield f"{what} is {test}", head + f"{{% if a is {test} %}}{{% endif %}}{{% endfor %}}"
        for method in METHODS:
            yield f"{what}.{method}", head + f"{{% set x = a.{method} %}}{{% endfor %}}"


def cpu_ms(pid):
    return 1e3 * time.clock_gettime(~pid << 3 | 2)  # the clock of another process's processor time: clock_getcpuclockid(3)


def measure(probe, source, runs):
    """(verdict, error, milliseconds from call to answer, of processor time): the best of the runs, since others use the machine too."""
    best, work = float("inf"), float("inf")
    for run in range(4 * runs):
        if run >= runs and best < LIMIT_MS:
            break
        busy, start = cpu_ms(probe.process.pid), time.perf_counter()
        error, said, _ = probe.exchange(source, {"messages": []})
        best = min(best, 1e3 * (time.perf_counter() - start))
        work = min(work, cpu_ms(probe.process.pid) - busy)
    return "refused" if error else "ok", said.decode() if error else "", best, work


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--probe", default=ROOT / "build/release/tests/template_probe")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", help="templates with this in their names")
    parser.add_argument("--verbose", "-v", action="store_true", help="every template, with its error")
    args = parser.parse_args()
    if not Path(args.probe).exists():
        print(f"no {args.probe}; build the target template_probe")
        return 1
    probe, slowest, late, wrong = Probe(args.probe), [], 0, 0
    refused = {case["name"]: case for case in json.loads(HOSTILE.read_text())}
    every = {**{name: expand(case["source"]) for name, case in refused.items()}, **dict(systematic()),
             **{f"long source of {what}": source for what, source in LONG.items()}}
    every = {name: source for name, source in every.items() if args.only is None or args.only in name}
    for name, source in every.items():
        verdict, said, wall, work = measure(probe, source, args.runs)
        slowest.append((wall, work, name))
        late += wall >= LIMIT_MS
        wrong += name in refused and (verdict != "refused" or said.count("; ") < 2 or refused[name]["says"] not in said)
        if args.verbose or name in refused or wall >= LIMIT_MS:
            print(f"{wall:8.1f} ms ({work:6.1f} of processor)  {verdict:8} {name}" + (f"\n    {said}" if args.verbose else ""), flush=True)
    print("slowest: " + "; ".join(f"{name} {wall:.1f} ms ({work:.1f} of processor)" for wall, work, name in sorted(slowest)[-5:]))
    print(f"{len(every)} templates, slowest {max(slowest)[0]:.1f} ms ({max(w for _, w, _ in slowest):.1f} of processor), {late} took "
          f"{LIMIT_MS} ms or more; {wrong} of the {sum(name in refused for name in every)} that must be refused were not, or without what, why, what to do")
    return 1 if late or wrong else 0


if __name__ == "__main__":
    sys.exit(main())
