"""Base text: what the tiny base reads before any fine-tuning.

Composed here from a seed, beside passages of real documents:

- short scenes in plain English, for words and sentences;
- everyday chats, so that the base knows the form of a chat, though nobody's answers;
- words to repeat, and questions over numbered sources whose answer repeats one sentence of them, so that it
  learns to copy.

None of it comes from a dataset of chats: what an adapter teaches must be new to the base.
"""

import random
from collections.abc import Iterator, Sequence

from llama_platform.models.prompt import Message

COLOURS = "red blue green yellow white black brown grey orange purple silver golden pink".split()
SIZES = "small large tiny huge narrow wide heavy light short tall thin thick".split()
MATERIALS = "wood glass steel paper stone cotton leather copper clay plastic wool brass".split()
THINGS = (
    "lamp table chair book clock bottle basket ladder mirror kettle blanket drum kite bicycle boat bell box cup key "
    "letter map bucket brush candle carpet coat hammer hat jar needle pencil pillow plate ring rope scarf shelf "
    "shoe spoon ticket torch umbrella vase wheel window door bench fence cart tent flag"
).split()
PLACES = (
    "kitchen garden library station harbour school market office museum bakery workshop forest village tower bridge "
    "hall cellar attic park square hospital theatre barn field valley island beach hotel factory laboratory garage "
    "yard"
).split()
WORKERS = (
    "baker teacher doctor farmer sailor painter gardener driver librarian nurse cook tailor engineer builder "
    "student singer writer carpenter fisher miller pilot plumber scientist shepherd waiter"
).split()
ANIMALS = "dog cat horse cow sheep goat bird fish fox bear wolf rabbit mouse duck owl bee frog snake".split()
FOODS = "bread soup cheese apple rice honey milk tea coffee cake pear plum salad pasta butter egg".split()
VERBS = [
    ("carry", "carries", "carried"), ("clean", "cleans", "cleaned"), ("open", "opens", "opened"),
    ("find", "finds", "found"), ("sell", "sells", "sold"), ("repair", "repairs", "repaired"),
    ("paint", "paints", "painted"), ("move", "moves", "moved"), ("hide", "hides", "hid"),
    ("bring", "brings", "brought"), ("keep", "keeps", "kept"), ("build", "builds", "built"),
    ("buy", "buys", "bought"), ("watch", "watches", "watched"), ("need", "needs", "needed"),
]  # fmt: skip
TIMES = [
    "in the morning", "in the evening", "at noon", "at night", "on Monday", "on Friday", "in winter",
    "in summer", "every day", "once a week", "before dinner", "after the rain", "last year", "today",
]  # fmt: skip
REASONS = [
    "because it was late", "because the weather was cold", "because it was broken", "to help a friend",
    "to save time", "because the old one was lost", "so that everybody could see it", "without any noise",
]  # fmt: skip
OPENINGS = ["Hello", "Hi", "Good morning", "Good evening", "Hey", "Hello there", "Greetings"]
WELCOMES = [
    "Hello! How can I help you today?", "Hi! What can I do for you?", "Good to see you. What do you need?",
    "Hello, I am ready to answer your questions.", "Welcome! What would you like to know?",
]  # fmt: skip
THANKS = ["Thanks", "Thank you", "Thank you very much", "Great, thanks", "That helps, thank you"]
RETURNS = [
    "You are welcome!", "You are welcome. Is there anything else?", "Happy to help.", "Any time!",
    "Glad that it helps. Feel free to ask more questions.",
]  # fmt: skip
FAREWELLS = ["Goodbye", "Bye", "See you later", "Have a nice day", "See you tomorrow"]
PARTINGS = [
    "Goodbye! Have a nice day.",
    "See you soon!",
    "Bye! Take care.",
    "Goodbye, and come back any time.",
]
USES = {
    "lamp": "give light", "kettle": "boil water", "hammer": "drive nails into wood", "umbrella": "stay dry",
    "map": "find the way", "clock": "tell the time", "needle": "sew clothes", "ladder": "reach high places",
    "brush": "clean or paint", "key": "open a lock", "rope": "tie things together", "bottle": "hold water",
    "pencil": "write and draw", "candle": "give light without power", "basket": "carry fruit",
    "bell": "call people", "boat": "cross the water", "bicycle": "travel without an engine",
    "blanket": "stay warm", "spoon": "eat soup", "bucket": "carry water", "tent": "sleep outside",
}  # fmt: skip
HABITATS = {
    "bird": "nest in a tree", "fish": "river or the sea", "bear": "forest", "frog": "pond", "bee": "hive",
    "fox": "forest", "cow": "field", "horse": "stable", "mouse": "hole in the wall", "owl": "old tree",
    "sheep": "field", "snake": "dry and warm place", "wolf": "mountains", "duck": "lake",
}  # fmt: skip


def compose_scene(rng: random.Random) -> str:
    """Return a few connected sentences about people, things and places."""
    worker, thing, place = rng.choice(WORKERS), rng.choice(THINGS), rng.choice(PLACES)
    colour, material, time, reason = (rng.choice(x) for x in (COLOURS, MATERIALS, TIMES, REASONS))
    base, present, past = rng.choice(VERBS)
    animal, food, other = rng.choice(ANIMALS), rng.choice(FOODS), rng.choice(WORKERS)
    sentences = [
        f"The {worker} {past} the {colour} {thing} in the {place} {time} {reason}.",
        f"The {thing} was made of {material}, and the {animal} slept beside it.",
        f"{time.capitalize()} the {other} came to the {place} and asked for {food}.",
        f"It is easy to {base} a {rng.choice(SIZES)} {thing} if you know how.",
        f"The {other} {present} what the {worker} does not need.",
        f"Nobody in the {place} had seen such a {rng.choice(SIZES)} {animal} before.",
    ]
    return " ".join(rng.sample(sentences, rng.randint(2, 5)))


def compose_fact(rng: random.Random) -> tuple[str, str, str]:
    """Return (question, sentence that answers it, subject) about an invented thing."""
    thing, place, worker = rng.choice(THINGS), rng.choice(PLACES), rng.choice(WORKERS)
    _, present, past = rng.choice(VERBS)
    subject = f"{thing} in the {place}"
    return rng.choice(
        [
            (f"What colour is the {subject}?", f"The {subject} is {rng.choice(COLOURS)}.", subject),
            (f"What is the {subject} made of?", f"The {subject} is made of {rng.choice(MATERIALS)}.", subject),
            (f"How large is the {subject}?", f"The {subject} is {rng.choice(SIZES)}.", subject),
            (f"Who {past} the {subject}?", f"The {worker} {past} the {subject} {rng.choice(TIMES)}.", subject),
            (f"When does the {worker} work?", f"The {worker} works {rng.choice(TIMES)}.", worker),
            (f"What does the {worker} sell?", f"The {worker} sells {rng.choice(FOODS)}.", worker),
            (f"How many people {present[:-1]} the {subject}?",
             f"There are {rng.randint(2, 99)} people who need the {subject}.", subject),
            (f"Where is the {thing} kept?", f"The {thing} is kept in the {place} {rng.choice(TIMES)}.", thing),
        ]
    )  # fmt: skip


def compose_question(rng: random.Random) -> tuple[str, str]:
    """Return an everyday question and its answer."""
    kind = rng.randrange(7)
    if kind == 0:
        a, b = rng.randint(0, 20), rng.randint(0, 20)
        return f"What is {a} plus {b}?", f"{a} plus {b} is {a + b}."
    if kind == 1:
        thing, use = rng.choice(list(USES.items()))
        return f"What is a {thing} for?", f"A {thing} is used to {use}."
    if kind == 2:
        animal, home = rng.choice(list(HABITATS.items()))
        return f"Where does a {animal} live?", f"A {animal} usually lives in a {home}."
    if kind == 3:
        items = rng.sample(THINGS, 3)
        return f"Can you list {', '.join(items)}?", "Sure: " + ", ".join(f"a {item}" for item in items) + "."
    if kind == 4:
        word = rng.choice(THINGS + ANIMALS + FOODS)
        return f"Can you repeat the word {word}?", f"Of course. The word is {word}."
    if kind == 5:
        worker, thing = rng.choice(WORKERS), rng.choice(THINGS)
        return f"Tell me about a {worker} and a {thing}.", compose_scene(rng)
    question, answer, _ = compose_fact(rng)
    return f"{answer} {question}", answer


def compose_chat(rng: random.Random) -> list[Message]:
    """Return a short everyday chat of one to four exchanges."""
    pairs: list[tuple[str, str]] = []
    if rng.random() < 0.4:
        pairs.append((rng.choice(OPENINGS) + rng.choice(["", "!", "."]), rng.choice(WELCOMES)))
    pairs += [compose_question(rng) for _ in range(rng.randint(1, 2))]
    if rng.random() < 0.3:
        pairs.append((rng.choice(THANKS) + rng.choice(["", "!", "."]), rng.choice(RETURNS)))
    if rng.random() < 0.2:
        pairs.append((rng.choice(FAREWELLS) + rng.choice(["", "!", "."]), rng.choice(PARTINGS)))
    return [message for q, a in pairs for message in (Message("user", q), Message("assistant", a))]


def compose_sourced_question(rng: random.Random, passages: Sequence[tuple[str, str]]) -> list[Message]:
    """Return a question over numbered sources, answered by one sentence of them and its number.

    Args:
        rng: the only source of chance.
        passages: (title, text) of real documents; half of the questions are about one of their sentences,
            half about invented facts.
    """
    if passages and rng.random() < 0.5:
        title, text = rng.choice(passages)
        sentences = [s.strip() for s in text.replace("\n", " ").split(". ") if 20 < len(s.strip()) < 200]
        if sentences:
            answer = rng.choice(sentences).rstrip(".") + "."
            words = answer.rstrip(".").split()
            start = rng.randrange(max(1, len(words) - 3))
            topic = " ".join(words[start : start + rng.randint(2, 4)])
            question = rng.choice(["What do the documents say about {}?", "Tell me about {}.", "{}?"]).format(topic)
            shown = [(title, " ".join(sentences))]
            shown += [(t, x[:300]) for t, x in rng.sample(passages, min(len(passages), rng.randint(0, 2)))]
            return _sourced(rng, question, answer, title, shown)
    facts = [compose_fact(rng) for _ in range(rng.randint(1, 4))]
    question, answer, subject = rng.choice(facts)
    shown = [(fact[2].capitalize(), f"{fact[1]} {compose_scene(rng)}"[: rng.randint(60, 240)]) for fact in facts]
    shown = [(t, x if answer not in x else f"{answer} {compose_scene(rng)[:120]}") for t, x in shown]
    return _sourced(rng, question, answer, subject.capitalize(), shown)


def _sourced(rng: random.Random, question: str, answer: str, title: str, shown: list[tuple[str, str]]) -> list[Message]:
    rng.shuffle(shown)
    number = next((n for n, (t, x) in enumerate(shown, 1) if t == title and answer.rstrip(".") in x), 1)
    sources = "\n\n".join(f"[{n}] {t}\n{x}" for n, (t, x) in enumerate(shown, 1))
    content = f"Answer from the sources and cite them by number.\n\n{sources}\n\nQuestion: {question}"
    return [Message("user", content), Message("assistant", f"{answer} [{number}]")]


def compose_repetition(rng: random.Random, passages: Sequence[tuple[str, str]]) -> list[Message]:
    """Return a request to repeat a run of words, and the words."""
    words = rng.choice(passages)[1].split() if passages else []
    if len(words) < 12 or rng.random() < 0.3:
        words = [rng.choice(rng.choice([COLOURS, THINGS, PLACES, ANIMALS, FOODS])) for _ in range(16)]
    start, length = rng.randrange(len(words) - 10), rng.randint(3, 24)
    run = words[start : start + length]
    if rng.random() < 0.5:
        rng.shuffle(run)
    text = " ".join(run)
    return [Message("user", f"{rng.choice(['Repeat', 'Say', 'Copy'])}: {text}"), Message("assistant", text)]


def compose(rng: random.Random, passages: Sequence[tuple[str, str]]) -> Iterator[str | list[Message]]:
    """Yield base text without end: prose as str, chats as messages.

    Args:
        rng: the only source of chance; the same state gives the same text.
        passages: (title, text) of the documents to read along.
    """
    while True:
        kind = rng.random()
        if kind < 0.2 and passages:
            title, text = rng.choice(passages)
            yield f"{title}\n\n{text}"
        elif kind < 0.26:
            yield compose_scene(rng)
        elif kind < 0.44:
            yield compose_chat(rng)
        elif kind < 0.58:
            yield compose_repetition(rng, passages)
        else:
            yield compose_sourced_question(rng, passages)
