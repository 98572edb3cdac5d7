# SPDX-License-Identifier: Apache-2.0
"""Small talk, polite refusals, and whole conversations made of several turns."""

from tasks import TASKS, held_out, vary
from words import ADJECTIVES, ANIMALS, CAPITALS, CITIES, JOBS, NAMES, WORDS

SYSTEM = (
    "You are a helpful assistant.", "You are a small assistant.",
    "You are heddle, a small assistant.", "Answer in short sentences.",
    "You are a friendly assistant. Answer briefly.", "Be brief and polite.",
)

# reply -> the cores of the questions that get it
TALK = {
    "Hello! How can I help you?":
        ("hello", "hi", "hey", "good morning", "good evening", "good day", "hello there",
         "hi there", "hello heddle"),
    "I am a small demo model that comes with heddle.":
        ("who are you?", "what are you?", "what is your name?", "introduce yourself.",
         "who am I talking to?", "are you a model?", "are you a robot?"),
    "I can do small sums, compare and sort numbers, spell and reverse words, name days, months and "
    "capitals, convert units and write JSON.":
        ("what can you do?", "help", "how can you help me?", "what are your skills?",
         "what can I ask you?", "what do you know?", "which things can you do?"),
    "heddle serves large language models on one or many machines.":
        ("what is heddle?", "what does heddle do?", "tell me about heddle.", "explain heddle.",
         "what is heddle for?"),
    "A heddle is the part of a loom that guides each thread.":
        ("what is a heddle on a loom?", "what does the word heddle mean?",
         "what is a heddle in weaving?", "why is it called heddle?"),
    "In a mixture of experts a router sends each token to a few small networks.":
        ("what is a mixture of experts?", "what is an expert model?",
         "what is a mixture of experts model?", "explain mixture of experts.", "what is MoE?"),
    "A token is a small piece of text.":
        ("what is a token?", "explain what a token is.", "what are tokens?",
         "what does token mean?"),
    "A language model predicts the next token of a text.":
        ("what is a language model?", "how does a language model work?",
         "what does a language model do?", "explain language models."),
    "I am fine, thank you. How can I help you?":
        ("how are you?", "how are you today?", "how do you do?", "are you well?"),
    "You are welcome!":
        ("thanks", "thank you", "thanks a lot", "thank you very much", "that was helpful",
         "well done", "great"),
    "Goodbye! Have a nice day.":
        ("bye", "goodbye", "see you", "good night", "see you later", "that is all"),
    "I was trained from scratch on text made by a small program.":
        ("how were you trained?", "where do you come from?", "who made you?", "how were you made?",
         "what were you trained on?"),
    "I have about eleven million weights.":
        ("how big are you?", "how large are you?", "how many weights do you have?",
         "how many parameters do you have?", "how small are you?"),
    "The sky is blue.": ("what color is the sky?", "which color does the sky have?",
                         "is the sky blue?"),
    "There are seven days in a week.":
        ("how many days are in a week?", "how many days does a week have?", "how long is a week?"),
    "There are twelve months in a year.":
        ("how many months are in a year?", "how many months does a year have?",
         "how many months make a year?"),
    "Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday":
        ("name the days of the week.", "list the days of the week.",
         "what are the days of the week?"),
    "January, February, March, April, May, June, July, August, September, October, November, "
    "December":
        ("name the months of the year.", "list the months.", "what are the months of the year?",
         "list all months."),
    "a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z":
        ("say the alphabet.", "list the letters of the alphabet.", "what is the alphabet?",
         "write the alphabet."),
    "The alphabet has 26 letters.":
        ("how many letters are in the alphabet?", "how many letters does the alphabet have?",
         "how long is the alphabet?"),
}
REPLIES = list(TALK)
OPENERS = ("", "", "", "Hey, ", "So, ", "Please tell me, ", "I want to know: ", "Hello! ",
           "One question: ", "Well, ")
CLOSERS = ("", "", "", " Please.", " Thanks.")

SORRY = "Sorry, I am too small for that. Ask me what I can do."
TOO_LARGE = "Sorry, I only add and subtract numbers up to 99."
REFUSED = (
    "Write a poem about the {animal}.", "Write a story about the {word}.",
    "Tell me a joke about the {animal}.", "Translate {word} into French.",
    "Translate {word} into German.", "What is the weather in {city}?",
    "What is the weather like in {city} today?", "Who is the president of {country}?",
    "Who is the king of {country}?", "How many people live in {city}?",
    "How many people live in {country}?", "How old is {name}?", "Where does {name} live?",
    "Draw the {animal}.", "Draw me a picture of the {word}.", "Sing a song about the {animal}.",
    "What time is it in {city}?", "Write a program that prints {word}.",
    "Write code for the {word}.", "Book a hotel in {city}.", "Explain the history of {country}.",
    "What is the price of the {word}?", "Where can I buy the {word}?", "Who invented the {word}?",
    "Play some music from {country}.", "Send a letter to {name}.", "Call {name}.",
    "Give me a recipe with {word}.", "Who won the game in {city}?",
    "What is the best {word} in {city}?", "How do I cook the {animal}?",
    "Write an essay about {country}.", "How far is it to {city}?", "What is the meaning of life?",
    "Tell me the news from {city}.", "Recommend a book about the {animal}.",
)


def talk(rng):
    reply = rng.choice(REPLIES)
    core = rng.choice(TALK[reply])
    opener = rng.choice(OPENERS)
    text = opener + core + (rng.choice(CLOSERS) if core[-1] in "?." else "")
    text = text[0].upper() + text[1:]
    key = text
    if core[-1] not in "?.":
        text += rng.choice(("", "!", "."))
    elif rng.random() < 0.12 and text[-1] == "?":
        text = text[:-1]
    if rng.random() < 0.15:
        text = text[0].lower() + text[1:]
    return key, text, reply


def refuse(rng):
    if rng.random() < 0.25:
        a, b = rng.randint(100, 9999), rng.randint(0, 9999)
        if rng.random() < 0.5:
            a, b = b, a
        text = rng.choice(("What is {a} + {b}?", "What is {a} plus {b}?", "{a} + {b}",
                           "Add {a} and {b}.",
                           "What is {a} - {b}?", "{a} - {b}", "What is {a} minus {b}?")).format(a=a,
                                                                                                b=b)
        return f"{a} {b}", text, TOO_LARGE
    text = rng.choice(REFUSED).format(animal=rng.choice(ANIMALS), word=rng.choice(WORDS),
                                      city=rng.choice(CITIES),
                                      country=rng.choice(list(CAPITALS)), name=rng.choice(NAMES))
    return text, text, SORRY


TASKS["talk"] = (talk, 4)
TASKS["refuse"] = (refuse, 2)
TASK_NAMES = tuple(TASKS)
WEIGHTS = tuple(weight for _, weight in TASKS.values())


def draw(rng, name=None, want_held_out=False):
    """One (task, question, answer) from the asked side of the split."""
    name = name or rng.choices(TASK_NAMES, WEIGHTS)[0]
    while True:
        key, question, answer = TASKS[name][0](rng)
        if held_out(name, key) == want_held_out:
            return name, vary(rng, question) if name != "talk" else question, answer


def follow_up(rng, want_held_out):
    """Two turns: a sum, then a change of its result."""
    while True:
        _, question, answer = draw(rng, rng.choice(("add", "subtract")))
        a, b = int(answer.split()[-1]), rng.randint(0, 99)
        plus = rng.random() < 0.5
        if a > 99 or (not plus and b > a) or held_out("add" if plus else "subtract",
                                                      f"{a} {b}") != want_held_out:
            continue
        second = rng.choice(("Now add {b}.", "Add {b} to that.", "And plus {b}?") if plus else
                            ("Now subtract {b}.", "Take {b} away from that.",
                             "And minus {b}?")).format(b=b)
        return [(question, answer), (second, f"{a} + {b} = {a + b}" if plus
                                     else f"{a} - {b} = {a - b}")]


def remember(rng, want_held_out):
    """A name that is told, perhaps another turn, and the question for it."""
    while True:
        name = rng.choice(NAMES)
        told = rng.choice(("My name is {n}.", "I am {n}.", "Hello, I am {n}.",
                           "Hi, my name is {n}.", "Call me {n}."))
        asked = rng.choice(("What is my name?", "Who am I?", "Do you know my name?",
                            "Do you remember my name?",
                            "Tell me my name."))
        if held_out("remember", f"{told} {name} {asked}") != want_held_out:
            continue
        turns = [(told.format(n=name), f"Nice to meet you, {name}!")]
        if not want_held_out and rng.random() < 0.08:
            return [(asked, "I do not know your name yet.")]
        if rng.random() < 0.6:
            turns.append(draw(rng)[1:])
        return turns + [(asked, f"Your name is {name}.")]


DIALOGUES = {"follow_up": (follow_up, 3), "remember": (remember, 3)}


def messages(rng, turns):
    """Turns as chat messages, one time in three under a system message."""
    out = []
    if rng.random() < 0.33:
        text = rng.choice(SYSTEM) if rng.random() < 0.7 else (
            f"You are a very {rng.choice(ADJECTIVES)} {rng.choice(JOBS)}.")
        out.append({"role": "system", "content": text})
    for question, answer in turns:
        out += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return out


def conversation(rng):
    """One training sample: chat messages, all from the training side of the split."""
    roll = rng.random()
    if roll < 0.05:
        turns = follow_up(rng, False)
    elif roll < 0.10:
        turns = remember(rng, False)
    else:
        turns = [draw(rng)[1:]]
        while len(turns) < 4 and rng.random() < 0.25:
            turns.append(draw(rng)[1:])
    return messages(rng, turns)


def evaluation(rng, count):
    """`count` held-out questions, the same number of each task.

    Returns a list of (task, messages without the last answer, that answer).
    """
    names, out, seen = list(TASKS) + list(DIALOGUES), [], set()
    while len(out) < count:
        name = names[len(out) % len(names)]
        if name in DIALOGUES:
            turns = DIALOGUES[name][0](rng, True)
        else:
            turns = [draw(rng)[1:]] if rng.random() < 0.25 else []
            turns.append(draw(rng, name, True)[1:])
        if turns[-1][0] in seen and name not in DIALOGUES:
            continue
        seen.add(turns[-1][0])
        out.append((name, messages(rng, turns)[:-1], turns[-1][1]))
    return out
