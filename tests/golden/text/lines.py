# SPDX-License-Identifier: Apache-2.0
"""Lines that are hard for tokenizers: code, eleven languages, emoji, control and combining characters, long runs of
spaces, random bytes made valid.  Deterministic; a line may contain line ends."""

import random
import unicodedata

SENTENCES = {
    "English": "The quick fox can't jump over 12 lazy dogs; they've been told so, haven't they? It'll be $3.50.",
    "German": "Der Übermut tut selten gut, aber größere Füße brauchen größere Schuhe: „schön“, sagte er.",
    "French": "L'été dernier, où étiez-vous ? J'ai mangé des crêpes à l'œuf près du château, c'est ça.",
    "Spanish": "¿Dónde está el baño? ¡Mañana será otro día, señor! El pingüino comió piñas.",
    "Russian": "Съешь ещё этих мягких французских булок, да выпей чаю. Год 2024 был тёплым.",
    "Greek": "Η γρήγορη αλεπού πηδά πάνω από τον σκύλο. Ποιος είναι ο ΟΔΥΣΣΕΥΣ;",
    "Arabic": "مرحبا بالعالم، كيف حالك اليوم؟ لدي ٣ كتب و ١٢ قلما. هَٰذَا نَصٌّ مُشَكَّل.",
    "Hebrew": "שלום עולם, מה שלומך היום? יֵשׁ לִי שְׁלוֹשָׁה סְפָרִים.",
    "Hindi": "नमस्ते दुनिया, आप कैसे हैं? मेरे पास १२ किताबें हैं। क्षत्रिय ज्ञान।",
    "Chinese": "你好,世界!今天天气怎么样?我有12本书和三只猫。《红楼梦》很长。",
    "Japanese": "こんにちは世界。カタカナとひらがな、漢字が混ざっています。ガギグゲゴ、ﾊﾝｶｸ。",
    "Korean": "안녕하세요 세계! 오늘 날씨가 어때요? 책이 12권 있습니다. 한글",
    "Thai": "สวัสดีชาวโลก วันนี้อากาศเป็นอย่างไรบ้าง ราคา ๑๒ บาท",
}

CODE = '''\
def greet(name: str = "world") -> None:
    """Say hello."""
    for i in range(10):
        if i % 2 == 0 and not name.startswith("_"):
            print(f"Hello, {name!r} #{i:03d}\\n")

#include <stdio.h>
int main(int argc, char **argv) { return argc > 1 ? 0x1F & ~argc : -1; } /* exit */
\tfor (size_t i = 0; i < n; ++i)\t\tsum += a[i] * b[i];
SELECT name, COUNT(*) FROM users WHERE age >= 21 GROUP BY name ORDER BY 2 DESC;
{"key": [1, 2.5e-3, null, true], "nested": {"a\\u00e9": "b"}}
<div class="row"><a href='https://example.org/?q=1&amp;r=2'>link</a></div>
if [[ -f "$HOME/.bashrc" ]]; then . "$HOME/.bashrc"; fi  # load
let f = |x: &mut Vec<u8>| -> Option<usize> { x.iter().position(|&b| b == b'\\n') };
'''

EMOJI = ("😀", "👍🏽", "👨‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪", "❤️", "☺", "🧑🏿‍🚀", "1️⃣", "©️", "🫠")
COMBINING = ("e\u0301", "a\u0308\u0323", "o\u0302\u0301", "\u1112\u1161\u11ab", "\u00c5", "\u212b", "\u0958", "n\u0303\u0303", "\u0344",
             "q\u0307\u0323", "\u1e9b\u0323", "\u2126", "\uf900", "\u0f71\u0f72", "\u0041\u030a\u0301", "\u0301x", "\U0001d15e")
CONTROL = ("\u0001", "\u001b[31m", "\u007f", "\u0085", "\u00a0", "\u00ad", "\u180e", "\u200b", "\u200d", "\u2028", "\u202e",
           "\ufeff", "\ufffd", "\u3000", "\u000b", "\u000c", "\r", "\r\n", "\t", "\U000e0001", "\ue000", "\U0010ffff", "\uffff")
SPECIAL = ("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|begin_of_text|>", "<tool>", "<wide>", "<word>", "[INST]", "<|im_", "|>")
PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ \n\n  ''…—“”«»、。！"


def words():
    return [w for s in SENTENCES.values() for w in s.split()] + CODE.split()


def random_char(rng):
    while True:
        c = rng.choice((rng.randrange(0x20, 0x7f), rng.randrange(0xa0, 0x800), rng.randrange(0x800, 0x10000),
                        rng.randrange(0x10000, 0x110000)))
        # Characters that are assigned in one Unicode version and not in another have no one right answer.
        if not 0xD800 <= c < 0xE000 and (unicodedata.category(chr(c)) != "Cn"):
            return chr(c)


def one(rng, vocabulary):
    kind = rng.randrange(10)
    if kind == 0:
        return rng.choice(list(SENTENCES.values()))
    if kind == 1:
        return " ".join(rng.choice(vocabulary) for _ in range(rng.randrange(1, 20)))
    if kind == 2:
        rows = CODE.splitlines(keepends=True)
        at = rng.randrange(len(rows))
        return "".join(rows[at:at + rng.randrange(1, 5)])
    if kind == 3:
        return "".join(rng.choice((rng.choice(EMOJI), rng.choice(vocabulary), " ")) for _ in range(rng.randrange(1, 12)))
    if kind == 4:
        return "".join(rng.choice((rng.choice(COMBINING), rng.choice(vocabulary), chr(rng.randrange(0x300, 0x370))))
                       for _ in range(rng.randrange(1, 12)))
    if kind == 5:
        return "".join(rng.choice((rng.choice(CONTROL), rng.choice(vocabulary), " ")) for _ in range(rng.randrange(1, 12)))
    if kind == 6:
        return rng.choice(vocabulary) + rng.choice((" ", "\t", "\n", " \n", "\r\n")) * rng.randrange(1, 60) + rng.choice(vocabulary)
    if kind == 7:
        return bytes(rng.randrange(256) for _ in range(rng.randrange(1, 60))).decode("utf-8", errors="replace")
    if kind == 8:
        return "".join(random_char(rng) for _ in range(rng.randrange(1, 30)))
    return "".join(rng.choice((rng.choice(SPECIAL), rng.choice(vocabulary), rng.choice(PUNCTUATION), str(rng.randrange(10 ** 6)),
                               " ")) for _ in range(rng.randrange(1, 16)))


def lines(count, seed=1):
    rng = random.Random(seed)
    vocabulary = words()
    out = ["", " ", "  ", "\n", "a", "\u0301", "<|im_end|>"]
    while len(out) < count:
        text = one(rng, vocabulary).replace("\0", "")  # tokenizer JSON cannot hold U+0000, and neither can a prompt
        out.append(text)
    return out[:count]


def clusters(count, seed=1):
    """Short strings around the rules of grapheme clusters, with characters that nmt_nfkc rewrites."""
    pool = ("™", "©", "®", "😀", "Ⓜ", "ℹ", "👍🏽", "🏽", "\u200d", "\u0301", "\ufe0f", "a", "é", "㊗", "ｶ", "ﾞ", "한", "\u1112\u1161",
            "\r", "\n", "\u0903", "\u0e33", "🇩", "🇪", "\u0600", "ﬁ", "①", "½")
    rng = random.Random(seed)
    return ["".join(rng.choice(pool) for _ in range(rng.randrange(1, 10))) for _ in range(count)]
