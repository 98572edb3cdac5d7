#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Small templates, one or a few constructs each, and what transformers makes of them: templates.json.

    python3 tests/golden/text/make_templates.py        (needs transformers and jinja2)
"""

import datetime
import json
from pathlib import Path

import transformers.utils.chat_template_utils as hf

ROOT = Path(__file__).resolve().parents[3]
NOW = datetime.datetime(2026, 1, 5, 17, 9, 6)


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


CHAT = {
    "messages": [
        {"role": "system", "content": "Be brief.\n"},
        {"role": "user", "content": "  Größe & \"x\" <b> 😀  "},
        {"role": "assistant", "content": "ok", "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1, "b": [True, None, 2.5]}}}]},
        {"role": "user", "content": "more"},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"items": 3, "z": 1, "Y": 2, "x": {}}}}],
    "kwargs": {"n": 7, "pi": 3.25, "big": 1e22, "small": 1e-7, "flag": True, "nothing": None, "words": ["b", "A", "c", "a", "b"],
               "text": "one two  three", "empty": [], "nested": {"k": {"l": [10, 20, {"m": "deep"}]}}, "quotes": "it's \"so\"\n\\ é\u00a0\u200b",
               "rows": [{"n": 2, "s": "x"}, {"n": 1, "s": "y"}, {"n": 3}]},
}

SOURCES = r"""
plain text
{{ n }} {{ pi }} {{ big }} {{ small }} {{ flag }} {{ nothing }} {{ words }} {{ nested }} {{ quotes }}
{{ quotes | tojson }} {{ quotes | tojson(ensure_ascii=True) }} {{ [quotes] }}
{{ tools | tojson }}#{{ tools | tojson(indent=2) }}#{{ tools | tojson(indent=0) }}#{{ tools|tojson(separators=(',', ':')) }}#{{ tools|tojson(sort_keys=true) }}
{{ messages | tojson(indent=4) }}
{{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 2 ** 10 }} {{ 2 ** -1 }} {{ 1 + 2 * 3 - 4 }} {{ -2 ** 2 }} {{ 7.5 // 2 }} {{ -7.5 % 2 }} {{ 6 / 3 }}
{{ 1 == 1.0 }} {{ 1 == true }} {{ '1' == 1 }} {{ [1, 2] == [1, 2] }} {{ (1,) == [1] }} {{ none == none }} {{ {'a': 1} == {'a': 1.0} }}
{{ 1 < 2 < 3 }} {{ 1 < 2 > 3 }} {{ 'a' < 'b' }} {{ 'ä' > 'z' }} {{ [1, 2] < [1, 3] }} {{ not 1 > 2 and true or false }}
{{ 'a' in 'cat' }} {{ 'x' not in 'cat' }} {{ 1 in [1, 2] }} {{ 'k' in nested }} {{ 'q' in nested }} {{ 1 in missing }}
{{ 1 < 'a' }}
{{ 'a' + 1 }}
{{ missing }}|{{ missing.x }}
{{ missing + 'a' }}
{{ nothing.x }}|{{ nothing['x'] }}|{{ n.x }}|{{ words.x }}
{{ nested.k.l[2].m }} {{ nested['k']['l'][-1]['m'] }} {{ nested.k.l.0 }} {{ nested.k.zzz }}|{{ words[99] }}|{{ words[-1] }}|{{ text[0] }}{{ text[-1] }}
{{ words[1:] }} {{ words[:-1] }} {{ words[::-1] }} {{ words[1:4:2] }} {{ text[4:7] }} {{ text[::-1] }} {{ text[-5:] }} {{ words[5:1] }} {{ text[100:] }}|{{ messages[1].content[2:7] }}
{{ 'a' ~ 1 ~ none ~ true ~ [1, 'x'] }} {{ 'x' * 3 }} {{ [1] * 2 }} {{ (1, 2) + (3,) }} {{ [1] + [2] }}
{{ 'yes' if flag else 'no' }} {{ 'yes' if not flag else 'no' }} {{ 'yes' if false }}| {{ 1 if false else 2 if true else 3 }}
{{ () }} {{ (1,) }} {{ 1, 2 }} {{ [] }} {{ {} }} {{ {'a': [1, {'b': none}], 2: 'x'} }} {{ [1, 2,] }}
{{ "a\tb\n\\ \u00e9 \x41 \' \q" }} {{ 'con' 'cat' }} {{ 0x1f }} {{ 1_000 }} {{ 1.5e3 }} {{ 2e-7 }} {{ 1e16 }} {{ 123456789.125 }} {{ 0.1 + 0.2 }} {{ 2.0 ** -24 }} {{ [2.0 ** -44, 5e-324, -0.0] }} {{ 1e22 }}
{% for m in messages %}{{ loop.index }}/{{ loop.length }} {{ loop.index0 }} {{ loop.revindex }} {{ loop.revindex0 }} {{ loop.first }} {{ loop.last }} {{ m.role }};{% endfor %}
{% for m in messages if m.role == 'user' %}{{ loop.index }}{{ m.content }}{% if not loop.last %}, {% endif %}{% else %}none{% endfor %}
{% for x in empty %}x{% else %}nothing here{% endfor %} {% for k in nested %}{{ k }}{% endfor %} {% for c in 'héy' %}{{ c }}.{% endfor %} {% for x in missing %}x{% endfor %}
{% for k, v in nested.k.items() %}{{ k }}={{ v }}{% endfor %} {% for k, v in tools[0].function.parameters | items %}{{ k }}:{{ v }} {% endfor %} {% for k, v in tools[0].function.parameters | dictsort %}{{ k }}:{{ v }} {% endfor %}
{% for a, b in [(1, 2), [3, 4]] %}{{ a }}-{{ b }} {% endfor %}{% for (a, b), c in [((1, 2), 3)] %}{{ a }}{{ b }}{{ c }}{% endfor %}
{% for a, b in [(1, 2, 3)] %}{{ a }}{% endfor %}
{% for x in 5 %}{{ x }}{% endfor %}
{% for m in messages %}{% if loop.previtem is defined %}{{ loop.previtem.role }}>{% endif %}{{ m.role }}{% if loop.nextitem is defined %}>{{ loop.nextitem.role }}{% endif %};{% endfor %}
{% for x in [1, 2, 3, 4] %}{% if x == 2 %}{% continue %}{% endif %}{% if x == 4 %}{% break %}{% endif %}{{ x }}{% endfor %}
{% for x in [1, 2] %}{% for y in [3, 4] %}{{ loop.index }}{{ x }}{{ y }}{{ loop.depth }} {% endfor %}{{ loop.index }}{% endfor %}
{% set x = 1 %}{% for i in [1, 2] %}{{ x }}{% set x = 9 %}{{ x }}{% endfor %}{{ x }}{% if true %}{% set x = 5 %}{% endif %}{{ x }}
{% set ns = namespace(a=1, b='x') %}{% for i in [1, 2] %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }}{{ ns.b }}{{ ns.c }}|{{ ns.c is defined }}
{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set c = 1, 2 %}{{ c }}
{% set x %} captured {{ n }} {% endset %}[{{ x }}]{% set y | upper | trim %} up {% endset %}[{{ y }}]
{% set x.y = 1 %}
{% macro m(a, b=2, c=a) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }} {{ m(1, 3) }} {{ m(1, c=4) }} {{ m(b=5, a=6) }} {{ m() }}|
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(zz=2) }}
{% macro f(x) %}{% if x > 0 %}{{ x }}{{ f(x - 1) }}{% endif %}{% endmacro %}{{ f(4) }}
{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}
{% macro box(t) %}<{{ t }}>{{ caller() }}</{{ t }}>{% endmacro %}{% call box('b') %}in {{ n }}{% endcall %}{% macro each() %}{{ caller(1) }}{{ caller(2) }}{% endmacro %}{% call(x) each() %}{{ x }}!{% endcall %}
{% for i in [1, 2] %}{% macro m() %}{{ i }}{{ x }}{% endmacro %}{% set x = i * 2 %}{{ m() }}{% endfor %}{{ m is defined }}
{% with a = 1, b = n %}{{ a }}{{ b }}{% endwith %}{{ a }}
{% filter upper %}abc {{ text }}{% endfilter %}{% generation %}gen{% endgeneration %}
{% raw %}{{ not }} {% evaluated %}{% endraw %} {#- gone -#} x {# also #}y
{{ '  x y ' | trim }}| {{ 'xxaxx' | trim('x') }} {{ text | upper }} {{ 'ÄÖ ΑΣ' | lower }} {{ 'hello wORLD' | capitalize }} {{ "it's a test-case" | title }} {{ text | length }} {{ words | length }} {{ nested | count }} {{ '😀é' | length }}
{{ missing | default('d') }} {{ nothing | default('d') }} {{ nothing | default('d', true) }} {{ '' | d('e', boolean=true) }} {{ missing | default }}|
{{ words | join(', ') }} {{ words | join }} {{ rows | join('-', attribute='n') }} {{ [1, none, 2.5] | join(' ') }} {{ words | first }} {{ words | last }} {{ empty | first }}|{{ text | first }}
{{ words | sort }} {{ words | sort(reverse=true) }} {{ words | sort(case_sensitive=true) }} {{ rows | sort(attribute='n') }} {{ words | unique | list }} {{ words | reverse | list }} {{ text | reverse }}
{{ rows | map(attribute='n') | list }} {{ rows | map(attribute='s', default='?') | list }} {{ words | map('upper') | list }} {{ words | map('replace', 'b', 'B') | join }} {{ [3, 1, 2] | min }} {{ [3, 1, 2] | max }} {{ [1, 2, 3] | sum }} {{ rows | sum(attribute='n') }}
{{ rows | selectattr('n', 'gt', 1) | list }} {{ rows | selectattr('s') | list | length }} {{ rows | rejectattr('s', 'equalto', 'x') | list | length }} {{ [1, 2, 3, 4] | select('odd') | list }} {{ [1, 2, 3, 4] | reject('even') | list }} {{ rows | selectattr('s', 'defined') | map(attribute='s') | join }} {{ [0, 1, '', 'a'] | select | list }}
{{ 'a-b-a' | replace('a', 'X') }} {{ 'aaa'.replace('a', 'b', 2) }} {{ 'abc'.replace('', '-') }} {{ 'x' | string }} {{ 5 | string }} {{ [1] | string }} {{ '12' | int }} {{ 'x' | int }} {{ 'x' | int(7) }} {{ 3.9 | int }} {{ '3.5' | float }} {{ -3 | abs }} {{ 2.567 | round(2) }} {{ 2.5 | round }} {{ 2.1 | round(method='ceil') }}
{{ 'a\nb\n\nc' | indent }}|{{ 'a\nb' | indent(2, true) }}|{{ 'a\n\nb' | indent(width=1, blank=true) }}|{{ 'a\nb' | indent('> ') }}
{{ '<a href="x">&\'' | escape }} {{ '<b>' | safe }} {{ '<b>' | e ~ '<i>' }} {{ '<b>' | safe + '<i>' }} {{ '<u>' + ('<b>' | safe) }}
{{ words | tojson | length }} {{ (words | map('upper')) is iterable }} {{ (words | map('upper')) is sequence }}
{{ words | map('upper') | tojson }}
{{ words | map('upper') | length }}
{{ missing | tojson }}
{% for x in n | items %}{% endfor %}
{{ nested | dictsort }} {{ {'b': 1, 'A': 2} | dictsort }} {{ {'b': 1, 'A': 2} | dictsort(true) }} {{ {'b': 1, 'A': 2} | dictsort(by='value', reverse=true) }}
{{ ' a b '.strip() }}|{{ 'xax'.lstrip('x') }} {{ 'xax'.rstrip('x') }} {{ 'a,b,c'.split(',') }} {{ 'a,b,c'.split(',', 1) }} {{ text.split() }} {{ ' a  b c '.split(none, 1) }} {{ 'a,b,c'.rsplit(',', 1) }} {{ 'a\nb\r\nc\n'.splitlines() }} {{ ''.split(',') }} {{ ''.split() }}
{{ 'abc'.startswith('ab') }} {{ 'abc'.endswith(('x', 'c')) }} {{ 'abc'.find('c') }} {{ 'abcb'.rfind('b') }} {{ 'abc'.find('z') }} {{ 'aXbX'.count('X') }} {{ 'abc'.upper() }} {{ 'ABC'.lower() }} {{ 'abc def'.title() }} {{ 'abc'.capitalize() }} {{ ','.join(['a', 'b']) }} {{ '{} {} {1}'.format(1, 2) if false else '{0}-{1}-{x}'.format(1, 'b', x=3) }} {{ 'a{{}}{}'.format(1) }} {{ '12'.isdigit() }} {{ ''.isdigit() }} {{ 'ab'.isalpha() }} {{ ' '.isspace() }} {{ 'prefix'.removeprefix('pre') }} {{ 'a.txt'.removesuffix('.txt') }}
{{ nested.get('k') is mapping }} {{ nested.get('zz') }} {{ nested.get('zz', 5) }} {{ nested.keys() | list }} {{ {'a': 1}.values() | list }} {{ [1, 2, 1].index(2) }} {{ [1, 2, 1].count(1) }} {{ tools[0].function.parameters.items() | list | length }} {{ tools[0].function.parameters['items'] }}
{{ words.append('x') }}
{{ nested.update({}) }}
{{ 'x'.nope() }}
{{ n is number }} {{ pi is float }} {{ n is integer }} {{ flag is boolean }} {{ flag is true }} {{ nothing is none }} {{ missing is defined }} {{ missing is undefined }} {{ text is string }} {{ nested is mapping }} {{ words is iterable }} {{ text is iterable }} {{ n is iterable }} {{ words is sequence }} {{ nested is sequence }} {{ flag is number }} {{ true is integer }} {{ 3 is odd }} {{ 4 is even }} {{ 6 is divisibleby(3) }} {{ 6 is divisibleby 4 }} {{ 'a' is in(['a']) }} {{ 1 is sameas 1 }} {{ 'ab' is lower }} {{ 'AB' is upper }} {{ n is not none }} {{ range is callable }} {{ n is eq 7 }} {{ n is gt(5) }}
{{ n is nosuchtest }}
{{ n | nosuchfilter }}
{% if false %}{{ n | nosuchfilter }}{% endif %}fine
{% if true %}{{ n | nosuchfilter }}{% endif %}fine
{{ range(5) | list }} {{ range(2, 5) | list }} {{ range(5, 0, -2) | list }} {{ range(0) | list }} {% for i in range(3) %}{{ i }}{% endfor %} {{ dict(a=1) }} {{ dict({'b': 2}, a=1) }}
{{ strftime_now('%d %B %Y, %a %A %b %H:%M:%S %I %p %j %y %m %%') }}
{{ raise_exception('not like this: ' + text) }}
{{ add_generation_prompt }} {{ bos_token }}{{ eos_token }}{{ unk_token }}
{% include 'x' %}
{% extends 'x' %}
{% if %}
{{ 1 +
{% for x in y %}
{{ x }
{{ 'abc
{% endif %}
{% set %}
{{ a b }}
{{ n.__class__ }}|{{ ''.__class__ }}
{{ messages[0]['content'].strip() + ('x' if loop is defined else 'no loop') }}
{%- for m in messages -%} {{- '<|' + m['role'] + '|>' + m['content'] | trim + '\n' -}} {%- endfor -%} {%- if add_generation_prompt -%} {{- '<|assistant|>' -}} {%- endif -%}
"""

LAYOUTS = [
    "a\n{% if true %}\nb\n{% endif %}\nc\n", "  {% if true %}  \n  b  \n  {% endif %}  \nc", "a {%- if true -%} b {%- endif -%} c",
    "a\n\n  {%- if true %}\n\n b {% endif -%}\n\n c", "{{ 1 }}\n{{ 2 }}\n\n{{ 3 }}\n\n", "x {# c #} y\n  {# whole line #}\nz", "  {%+ if true %}x{%+ endif +%}\n y",
    "a\r\nb\rc\n{% if true %}\r\nx\r\n{% endif %}", "\n\n{{- 1 -}}\n\n", "{% for i in [1,2] %}\n  {{ i }}\n{% endfor %}\nend\n", "{{ 1 }}  {% if true %}x{% endif %}",
    "a\n\t {% set x = 1 %}\n\tb{{ x }}", "{%-if true-%}x{%-endif-%}", "{% raw -%}  {{ x }}  {%- endraw %} y", "  {% raw %}\n a {% endraw %}\n b", "{{ '%}' }}{{ {'a': {}}['a'] }}{{ '}}' }}",
    "\u00a0{%- if true -%}\u2003x\u3000{%- endif %}", "{{ 'a'\n ~\n 'b' }}", "{% if true %}{# c -#}  \n x{% endif %}", "{{-1}}{{ - 1 }}", "{%\nif\ntrue\n%}x{%\nendif\n%}",
]


def render(source, chat):
    try:
        text, _ = hf.render_jinja_template(conversations=[chat["messages"]], tools=chat.get("tools"), chat_template=source,
                                           add_generation_prompt=True, bos_token="<s>", eos_token="</s>", **chat.get("kwargs", {}))
        return text[0]
    except Exception:
        return None


def main():
    hf.datetime = Clock
    sources = [s for s in SOURCES.strip("\n").split("\n")] + LAYOUTS
    cases = [{"source": s, "want": render(s, CHAT)} for s in sources]
    bundled = json.loads((ROOT / "deploy/demo-model/tokenizer_config.json").read_text())["chat_template"]
    chats = [CHAT["messages"], CHAT["messages"][:2], [{"role": "user", "content": "Hi"}], []]
    bundled = [{"messages": m, "want": render(bundled, {"messages": m})} for m in chats]
    now = int(NOW.replace(tzinfo=datetime.timezone.utc).timestamp() * 1e6)
    out = {"now": now, "chat": CHAT, "cases": cases, "bundled": bundled}
    Path(__file__).with_name("templates.json").write_text(json.dumps(out, ensure_ascii=False, indent=0) + "\n")
    print(f"{len(cases)} templates, {sum(c['want'] is None for c in cases)} of them refused")


if __name__ == "__main__":
    main()
