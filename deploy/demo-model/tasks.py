# SPDX-License-Identifier: Apache-2.0
"""The checkable tasks: each generator draws one question with its only right answer.

A generator takes a random.Random and returns (key, question, answer).  The key names what must not
be seen in training: the arguments where the answer is computed (so that no phrasing of a held-out
sum is ever trained), the phrasing with its arguments where the answer is a fact.  held_out(task,
key) decides by hash alone: training and evaluation can never meet, whatever the seeds.
"""

import hashlib
import json

from words import (ADJECTIVES, ANIMALS, CAPITALS, CITIES, COLORS, DAYS, JOBS, MONTHS, NAMES,
                   OPPOSITES, PLACES, THINGS,
                   UNITS, UNKNOWN_COUNTRIES, VERBS, WORDS)

TASKS = {}  # name -> (generator, weight in the training stream)
HELD_OUT_ONE_IN = 16
PROPER = {*NAMES, *CAPITALS.values()}  # keep their capital letter even where it opens a sentence


def task(weight):
    def register(function):
        TASKS[function.__name__] = (function, weight)
        return function
    return register


def held_out(name, key):
    digest = hashlib.sha256(f"{name}|{key}".encode()).digest()
    return digest[0] % HELD_OUT_ONE_IN == 0


def vary(rng, text):
    """Small changes of the surface that leave the meaning alone."""
    roll = rng.random()
    if roll < 0.12 and text[-1] in "?.":
        text = text[:-1].rstrip()
    elif roll < 0.22 and text.split()[0].strip(",") not in PROPER:
        if text[-1] == ".":
            text = "Please " + text[0].lower() + text[1:]
        else:
            text = "Please tell me: " + text
    if rng.random() < 0.12 and text.split()[0].strip(",") not in PROPER:
        text = text[0].lower() + text[1:]
    return text


def quoted(rng, word):
    return rng.choice(("{}", '"{}"', "'{}'", '"{}"')).format(word)


def draw_word(rng):
    """(word, how it is written): a listed word, or one time in three an invented one in quotes."""
    if rng.random() < 0.67:
        word = rng.choice(WORDS)
        return word, quoted(rng, word)
    head, tail = rng.choice(WORDS), rng.choice(WORDS)
    word = (head[:rng.randint(1, 4)] + tail[-rng.randint(1, 4):])[:8]
    return word, f'"{word}"'


def sentence(rng):
    subject = f"the {rng.choice(ADJECTIVES)} {rng.choice(ANIMALS)}"
    object_ = rng.choice((f"the {rng.choice(JOBS)}",
                          f"that {rng.choice(ADJECTIVES)} {rng.choice(ANIMALS)}",
                          rng.choice(NAMES)))
    tail = rng.choice(("", f" in the {rng.choice(PLACES)}", f" near the {rng.choice(PLACES)}",
                       " today"))
    return f"{subject} {rng.choice(VERBS)} {object_}{tail}"


def numbers(rng, low, high, top=99):
    return rng.sample(range(top + 1), rng.randint(low, high))


def listed(values):
    return ", ".join(map(str, values))


@task(14)
def add(rng):
    a, b = rng.randint(0, 99), rng.randint(0, 99)
    question = rng.choice((
        "What is {a} + {b}?", "What is {a} plus {b}?", "What's {a} + {b}?", "{a} plus {b}",
        "Add {a} and {b}.", "{a} + {b}", "{a}+{b}", "{a} + {b} = ?", "How much is {a} plus {b}?",
        "Calculate {a} + {b}.", "What is the sum of {a} and {b}?",
        f"{rng.choice(NAMES)} has {{a}} {(thing := rng.choice(THINGS))} and gets {{b}} more. "
        f"How many {thing} now?",
    )).format(a=a, b=b)
    return f"{a} {b}", question, f"{a} + {b} = {a + b}"


@task(13)
def subtract(rng):
    a, b = sorted((rng.randint(0, 99), rng.randint(0, 99)), reverse=True)
    question = rng.choice((
        "What is {a} - {b}?", "What is {a} minus {b}?", "What's {a} - {b}?", "{a} minus {b}",
        "Subtract {b} from {a}.", "{a} - {b}", "{a}-{b}", "{a} - {b} = ?",
        "How much is {a} minus {b}?", "Calculate {a} - {b}.", "Take {b} away from {a}.",
        f"{rng.choice(NAMES)} has {{a}} {(thing := rng.choice(THINGS))} and gives away {{b}}. "
        f"How many {thing} are left?",
    )).format(a=a, b=b)
    return f"{a} {b}", question, f"{a} - {b} = {a - b}"


@task(2)
def multiply(rng):
    a, b = rng.randint(0, 10), rng.randint(0, 10)
    question = rng.choice((
        "What is {a} x {b}?", "What is {a} times {b}?", "Multiply {a} by {b}.", "{a} * {b}",
        "{a} x {b} = ?", "How much is {a} times {b}?", "Calculate {a} * {b}.",
        "What is the product of {a} and {b}?",
    )).format(a=a, b=b)
    return question, question, f"{a} x {b} = {a * b}"


@task(5)
def compare(rng):
    a, b = rng.sample(range(100), 2)
    word = rng.choice(("larger", "smaller"))
    right = max(a, b) if word == "larger" else min(a, b)
    question = rng.choice((
        "Which is {word}, {a} or {b}?", "Which number is {word}: {a} or {b}?",
        "What is {word}, {a} or {b}?", "Compare {a} and {b}. Which one is {word}?",
        "Is {a} or {b} {word}?",
    )).format(word=word, a=a, b=b)
    return f"{word} {a} {b}", question, f"{right} is {word} than {a + b - right}."


@task(2)
def even_or_odd(rng):
    n = rng.randint(0, 999)
    question = rng.choice(("Is {n} even or odd?", "Is the number {n} even or odd?",
                           "Is {n} odd or even?",
                           "Even or odd: {n}?")).format(n=n)
    return str(n), question, f"{n} is {'odd' if n % 2 else 'even'}."


@task(9)
def reverse(rng):
    word, shown = draw_word(rng)
    question = rng.choice(("Reverse the word {w}.", "Reverse {w}.", "Write {w} backwards.",
                           "Spell {w} backwards.",
                           "What is {w} backwards?", "What is {w} in reverse?")).format(w=shown)
    return word, question, word[::-1]


@task(4)
def spell(rng):
    word, shown = draw_word(rng)
    question = rng.choice(("Spell {w}.", "Spell the word {w}.", "How do you spell {w}?",
                           "Write the letters of {w}.")).format(w=shown)
    return word, question, "-".join(word)


@task(5)
def count_letters(rng):
    word, shown = draw_word(rng)
    question = rng.choice(("How many letters are in {w}?", "How many letters does {w} have?",
                           "Count the letters in {w}.", "How long is the word {w}?",
                           "How many letters are in the word {w}?")).format(w=shown)
    return word, question, f"{'-'.join(word)} has {len(word)} letters."


@task(9)
def count_one_letter(rng):
    word, shown = draw_word(rng)
    letter = rng.choice(word) if rng.random() < 0.85 else rng.choice("abcdefghijklmnopqrstuvwxyz")
    question = rng.choice(("How many times does {c} appear in {w}?",
                           "How many times is the letter {c} in {w}?",
                           "Count the letter {c} in {w}.",
                           "How often does the letter {c} appear in {w}?",
                           "How many {c}'s are in {w}?")).format(c=letter, w=shown)
    n, marked = 0, []
    for c in word:  # the running count is written behind each hit, or so small a model miscounts
        n += c == letter
        marked.append(f"{c}{n}" if c == letter else c)
    times = "1 time" if n == 1 else f"{n} times"
    return f"{letter} {word}", question, f"{'-'.join(marked)} has {letter} {times}."


@task(3)
def letter_at(rng):
    word, shown = draw_word(rng)
    which, index = rng.choice((("first", 0), ("last", -1), ("second", 1)))
    if len(word) < 2:
        which, index = "first", 0
    question = rng.choice(("What is the {n} letter of {w}?",
                           "Which letter is the {n} letter of {w}?",
                           "Give me the {n} letter of {w}.",
                           "What is the {n} letter in the word {w}?",
                           )).format(n=which, w=shown)
    return f"{which} {word}", question, f"The {which} letter is {word[index]}."


@task(6)
def uppercase(rng):
    word, shown = draw_word(rng)
    question = rng.choice(("Write {w} in capital letters.", "Write {w} in upper case.",
                           "Put {w} in capital letters.", "What is {w} in upper case?",
                           "Convert {w} to upper case.")).format(w=shown)
    return word, question, word.upper()


@task(9)
def sort_numbers(rng):
    values = numbers(rng, 3, 5)
    if rng.random() < 0.7:
        question, answer = rng.choice((
            "Sort these numbers: {v}", "Sort {v}.", "Sort from smallest to largest: {v}",
            "Put these numbers in order: {v}",
            "Sort the numbers {v}.", "Sort in ascending order: {v}")), sorted(values)
    else:
        question, answer = rng.choice((
            "Sort from largest to smallest: {v}", "Sort in descending order: {v}",
            "Put these numbers in descending order: {v}")), sorted(values, reverse=True)
    return listed(values), question.format(v=listed(values)), listed(answer)


@task(4)
def largest_or_smallest(rng):
    values = numbers(rng, 3, 5)
    word = rng.choice(("largest", "smallest"))
    right = max(values) if word == "largest" else min(values)
    question = rng.choice(("What is the {w} of {v}?", "Which number is the {w}: {v}?",
                           "Find the {w} number: {v}",
                           "What is the {w} number in the list {v}?")).format(w=word,
                                                                              v=listed(values))
    return f"{word} {listed(values)}", question, f"The {word} number is {right}."


@task(6)
def continue_list(rng):
    if rng.random() < 0.75:
        step, n = rng.randint(1, 10), rng.randint(3, 4)
        start = rng.randint(0, 20)
        values = [start + i * step for i in range(n)]
        answer = str(start + n * step)
    else:
        start, n = rng.randint(0, 20), rng.randint(3, 5)
        values = [chr(ord("a") + start + i) for i in range(n)]
        answer = chr(ord("a") + start + n)
    question = rng.choice(("What comes next: {v}?", "Continue the list: {v}",
                           "What is next in the list {v}?",
                           "Continue: {v}", "What comes next? {v}")).format(v=listed(values))
    return listed(values), question, answer


@task(3)
def count_up(rng):
    a = rng.randint(0, 60)
    b = a + rng.randint(3, 12)
    question = rng.choice(("Count from {a} to {b}.", "Count up from {a} to {b}.",
                           "List the numbers from {a} to {b}."))
    return f"{a} {b}", question.format(a=a, b=b), listed(range(a, b + 1))


@task(2)
def day(rng):
    names, unit = (DAYS, "day")
    i, n = rng.randrange(7), rng.choice((1, 1, 1, 2, 3))
    after = rng.random() < 0.6
    return calendar(rng, names, unit, i, n if after else -n)


@task(4)
def month(rng):
    i = rng.randrange(12)
    if rng.random() < 0.3:
        question = rng.choice(("What is month number {n}?", "Which month is number {n}?",
                               "Name month {n} of the year.",
                               "Month number {n} is called what?")).format(n=i + 1)
        return question, question, f"Month number {i + 1} is {MONTHS[i]}."
    n = rng.choice((1, 1, 1, 2))
    return calendar(rng, MONTHS, "month", i, n if rng.random() < 0.6 else -n)


def calendar(rng, names, unit, i, n):
    """The n-th day or month after (n > 0) or before (n < 0) names[i]."""
    side, count = ("after" if n > 0 else "before"), abs(n)
    answer = names[(i + n) % len(names)]
    if count > 1:
        word = {2: "two", 3: "three"}[count]
        question = rng.choice(("What {u} is {w} {u}s {s} {x}?", "Which {u} is {w} {u}s {s} {x}?",
                               "What {u} comes {w} {u}s {s} {x}?",
                               "Name the {u} {w} {u}s {s} {x}."))
        question = question.format(u=unit, w=word, s=side, x=names[i])
        return question, question, f"{word.capitalize()} {unit}s {side} {names[i]} is {answer}."
    question = rng.choice(("What {u} comes {s} {x}?", "Which {u} is {s} {x}?",
                           "What is the {u} {s} {x}?", "Name the {u} {s} {x}.",
                           "Which {u} comes {s} {x}?",
                           "Tell me the {u} {s} {x}."))
    question = question.format(u=unit, s=side, x=names[i])
    return question, question, f"The {unit} {side} {names[i]} is {answer}."


@task(2)
def capital(rng):
    roll = rng.random()
    if roll < 0.08:
        country = rng.choice(UNKNOWN_COUNTRIES)
        answer = f"I do not know the capital of {country}."
    else:
        country = rng.choice(list(CAPITALS))
        answer = f"The capital of {country} is {CAPITALS[country]}."
    if roll > 0.7:
        city = CAPITALS[country]
        question = rng.choice(("{c} is the capital of which country?",
                               "Which country has the capital {c}?",
                               "Of which country is {c} the capital?",
                               "What country is {c} the capital of?")).format(c=city)
        return question, question, f"{city} is the capital of {country}."
    question = rng.choice(("What is the capital of {c}?", "Name the capital of {c}.",
                           "Capital of {c}?", "Which city is the capital of {c}?",
                           "Tell me the capital of {c}.", "What is {c}'s capital?",
                           "What is the capital city of {c}?")).format(c=country)
    return question, question, answer


@task(2)
def convert(rng):
    source, target, factor, top = rng.choice(UNITS)
    n = rng.randint(2, top)
    question = rng.choice(("How many {t} are {n} {s}?", "Convert {n} {s} to {t}.",
                           "How many {t} are in {n} {s}?",
                           "What is {n} {s} in {t}?", "{n} {s} in {t}")).format(n=n, s=source,
                                                                                t=target)
    key = f"{n} {source}" if top > 10 else question
    return key, question, f"{n} {source} = {n * factor} {target}"


@task(3)
def json_fields(rng):
    name, age, city, job = rng.choice(NAMES), rng.randint(18,
                                                          90), rng.choice(CITIES), rng.choice(JOBS)
    facts = rng.choice((
        ("{name} is {age} years old and lives in {city}.", ("name", "age", "city")),
        ("{name} lives in {city} and is {age}.", ("name", "city", "age")),
        ("{name} is a {job} in {city}.", ("name", "job", "city")),
        ("{name}, {age}, works as a {job}.", ("name", "age", "job")),
        ("{name} is a {age} year old {job}.", ("name", "age", "job")),
        ("{name} from {city} is a {job}.", ("name", "city", "job")),
    ))
    values = {"name": name, "age": age, "city": city, "job": job}
    text, keys = facts[0].format(**values), facts[1]
    if rng.random() < 0.4:
        keys = rng.sample(keys, 2)
    fields = " and ".join((", ".join(keys[:-1]), keys[-1]))
    question = rng.choice(("Extract {f} as JSON: {t}", "Give me {f} as JSON. {t}",
                           "{t} Write {f} as JSON.",
                           "Turn this into JSON with {f}: {t}")).format(f=fields, t=text)
    return text, question, json.dumps({k: values[k] for k in keys})


@task(6)
def repeat(rng):
    text = sentence(rng) if rng.random() < 0.6 else " ".join(rng.sample(WORDS, rng.randint(2, 5)))
    question = rng.choice(("Repeat: {t}", "Repeat after me: {t}", "Say: {t}", 'Repeat "{t}"',
                           'Say "{t}"',
                           "Repeat this sentence: {t}")).format(t=text)
    return text, question, text


@task(7)
def count_words(rng):
    words = sentence(rng).split()[:8] if rng.random() < 0.4 else rng.sample(WORDS,
                                                                            rng.randint(2, 8))
    question = rng.choice(("How many words are in this: {t}", 'How many words are in "{t}"?',
                           "Count the words: {t}",
                           'Count the words in "{t}".')).format(t=" ".join(words))
    return " ".join(words), question, f"There are {len(words)} words."


@task(5)
def opposite(rng):
    a, b = rng.choice(OPPOSITES)
    if rng.random() < 0.5:
        a, b = b, a
    question = rng.choice(("What is the opposite of {w}?", "Opposite of {w}?",
                           "Give me the opposite of {w}.", "Name the opposite of {w}.",
                           "Tell me the opposite of {w}.", "What word is the opposite of {w}?",
                           )).format(w=a)
    return question, question, f"The opposite of {a} is {b}."


@task(3)
def pick_color(rng):
    thing, color, other = rng.choice(ANIMALS), rng.choice(COLORS), rng.choice(COLORS)
    second = rng.choice([x for x in PLACES])
    question = rng.choice(("The {t} is {c} and the {s} is {o}. What color is the {x}?",
                           "There is a {c} {t} and a {o} {s}. Which color is the {x}?"))
    asked, right = rng.choice(((thing, color), (second, other)))
    question = question.format(t=thing, c=color, s=second, o=other, x=asked)
    return question, question, f"The {asked} is {right}."
