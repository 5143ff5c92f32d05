"""Labelled answers for `benchmarks.answers`: true ones and wrong ones, made of the descriptions of installed packages.

Each case is a sentence that an answer may hold, beside the four chunks that its writer would have been shown: the one
that the sentence is of, its neighbour in the same document, and two of others.
"""

import importlib.metadata
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from rag.citations import sentences
from rag.documents.blocks import markdown_blocks
from rag.documents.chunking import Chunk, split_document
from rag.documents.document import Document, Facts, clean_text

CHUNK_TOKENS = 200
LEAST_CHARS, MOST_CHARS = 40, 260
_NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?![\w.]*\w)")
_NAME = re.compile(r"(?<=[a-z,] )[A-Z][A-Za-z]{3,}\b")
_NEGATABLE = re.compile(
    r"\b(is|are|was|were|can|will|should|must|does|has been|have been)\b(?! not|n't| no)", re.IGNORECASE
)
_NEGATION = re.compile(r"\b(?:is|are|was|were|can|will|should|must|does|do) not\b|\bcannot\b", re.IGNORECASE)
_LONG_WORD = re.compile(r"\b[A-Za-z][A-Za-z]{4,}\b")
_SUBJECT = re.compile(
    r"^(.{6,60}?) (is|are|provides|supports|allows|uses|requires|contains|returns|can|should|will|has|have) "
    r"(.{25,140}?)[.!]$"
)
_SYNONYMS = [
    ("use", "employ"), ("uses", "employs"), ("used", "employed"), ("using", "by means of"), ("allows", "lets"),
    ("provides", "offers"), ("provide", "offer"), ("supports", "handles"), ("support", "handle"),
    ("requires", "needs"), ("require", "need"), ("required", "needed"), ("create", "make"), ("creates", "makes"),
    ("returns", "gives back"), ("return", "give back"), ("contains", "holds"), ("contain", "hold"),
    ("however", "though"), ("also", "as well"), ("fast", "quick"), ("easy", "simple"), ("example", "instance"),
    ("package", "library"), ("large", "big"), ("multiple", "several"), ("via", "through"), ("ensure", "make sure"),
    ("run", "execute"), ("runs", "executes"), ("start", "begin"), ("show", "display"), ("shows", "displays"),
    ("remove", "delete"), ("get", "obtain"), ("help", "assist"), ("helps", "assists"), ("because", "since"),
    ("different", "various"), ("specify", "state"), ("default", "standard"), ("only", "just"), ("want", "wish"),
]  # fmt: skip
_OPENINGS = ("According to the documents, ", "The text says that ", "In short, ", "", "")


@dataclass(frozen=True, slots=True)
class Case:
    """A sentence, and whether its sources say so."""

    text: str
    supported: bool
    kind: str
    """`true`, `other` (of another document), `number`, `name` or `negation` (one of which is changed)."""
    free: bool
    """Whether it says it in words of its own; else it quotes."""
    sources: tuple[Chunk, ...]


@cache
def documents() -> tuple[Document, ...]:
    """Return the longer descriptions of the installed packages, in order of their names."""
    found = {}
    for one in importlib.metadata.distributions():
        text = str(one.metadata.json.get("description") or "")
        if len(text) > 2000:
            found[one.metadata["Name"].lower()] = clean_text(text[:40_000])
    return tuple(
        Document(f"{name}.md", text, "", Facts(title=name), tuple(markdown_blocks(text)))
        for name, text in sorted(found.items())
    )


@cache
def chunks() -> tuple[tuple[Chunk, ...], ...]:
    """Return the chunks of each document."""

    def words(text: str) -> list[int]:
        return [found.start() for found in re.finditer(r"\w+|[^\w\s]", text)]

    return tuple(tuple(split_document(one, CHUNK_TOKENS, 0, words)) for one in documents())


def cases(count: int, seed: int = 0) -> list[Case]:
    """Return labelled sentences, as many true as wrong ones, about `count` of them."""
    choose = random.Random(seed)
    known = chunks()
    places = [(d, c, text) for d, of in enumerate(known) for c, one in enumerate(of) for text in _plain(one)]
    choose.shuffle(places)
    names = sorted({found[0] for _, _, text in places for found in _NAME.finditer(text)})
    wrong: dict[str, Callable[[str], str | None]] = {
        "number": lambda text: _change_number(text, choose),
        "name": lambda text: _change_name(text, names, choose),
        "negation": lambda text: _negate(text),
    }
    found: list[Case] = []
    kinds = dict.fromkeys(("number", "name", "negation", "other"), 0)
    for place, (document, chunk, text) in enumerate(places):
        if len(found) >= count:
            break
        sources = _sources(document, chunk, choose)
        free = bool(place % 2)
        said = paraphrased(text, choose) if free else text
        if said is None:
            continue
        for kind in sorted(kinds, key=lambda one: kinds[one]):  # the rarest first: few sentences hold a number
            if kind == "other":
                other = next(text for d, _, text in choose.sample(places, 20) if d != document)
                written = paraphrased(other, choose) if free else other
            else:
                written = wrong[kind](said)
            if written:
                found.append(Case(said, True, "true", free, sources))
                found.append(Case(written, False, kind, free, sources))
                kinds[kind] += 1
                break
    return found


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, and the chunk that answers it."""

    question: str
    chunk: Chunk | None
    """None where nothing does: some of its words were replaced by others of the same texts."""


def questions(count: int, seed: int = 0) -> list[Asked]:
    """Return questions made of sentences whose subject is asked for, half of them with words that are not of theirs."""
    choose = random.Random(seed)
    places = [(chunk, text) for of in chunks() for chunk in of for text in _plain(chunk)]
    choose.shuffle(places)
    words = sorted({word for _, text in places for word in _LONG_WORD.findall(text)})
    found: list[Asked] = []
    for chunk, text in places:
        parts = _SUBJECT.match(text)
        if len(found) >= count:
            break
        if parts is None:
            continue
        rest = parts[3]
        for one, other in _SYNONYMS:
            if choose.random() < 0.7:
                rest = re.sub(rf"\b{one}\b", other, rest)
        held = _LONG_WORD.findall(rest)
        if len(held) < 3:
            continue
        wrong = rest
        for word in choose.sample(held, len(held) // 3):
            wrong = re.sub(rf"\b{word}\b", choose.choice(words), wrong, count=1)
        found += [Asked(f"What {parts[2]} {rest}?", chunk), Asked(f"What {parts[2]} {wrong}?", None)]
    return found


def paraphrased(text: str, choose: random.Random) -> str | None:
    """Return a sentence in other words, as far as a list of words goes; None where nothing can be changed."""
    changed = re.sub(r"\s*\([^)]*\)", "", text)
    changed = re.sub(r"\b([Tt]he|[Aa]n?) (?=[a-z])", lambda found: "" if choose.random() < 0.5 else found[0], changed)
    count = 0
    for one, other in _SYNONYMS:
        changed, times = re.subn(rf"\b{one}\b", other, changed)
        count += times
    head, comma, tail = changed.partition(", ")
    if comma and len(head.split()) > 3 and len(tail.split()) > 3 and not re.search(r"[,:;]", tail):
        changed = f"{tail.rstrip('.')}, {head[0].lower()}{head[1:]}."
        changed = changed[0].upper() + changed[1:]
        count += 1
    opening = choose.choice(_OPENINGS)
    if opening:
        first, rest = changed[:1], changed[1:]
        changed = opening + (first.lower() + rest if rest[:1].islower() else changed)
    return changed if count else None


def _plain(chunk: Chunk) -> Iterator[str]:
    for start, end in sentences(chunk.text):
        text = " ".join(chunk.text[start:end].split())
        letters = sum(sign.isalpha() or sign == " " for sign in text)
        if (
            LEAST_CHARS <= len(text) <= MOST_CHARS
            and letters > 0.8 * len(text)
            and text[-1] in ".!?"
            and text[0].isupper()
        ):
            yield text


def _sources(document: int, chunk: int, choose: random.Random) -> tuple[Chunk, ...]:
    known = chunks()
    own = known[document]
    neighbours = [own[place] for place in (chunk - 1, chunk + 1) if 0 <= place < len(own)][:1]
    others = [choose.choice(known[choose.randrange(len(known))]) for _ in range(3 - len(neighbours))]
    shown = [own[chunk], *neighbours, *others]
    choose.shuffle(shown)
    return tuple(shown)


def _change_number(text: str, choose: random.Random) -> str | None:
    numbers = list(_NUMBER.finditer(text))
    if not numbers:
        return None
    number = choose.choice(numbers)
    value = f"{float(number[0]) + choose.choice([1, 2, 7]):g}"
    return text[: number.start()] + value + text[number.end() :]


def _change_name(text: str, names: Sequence[str], choose: random.Random) -> str | None:
    found = list(_NAME.finditer(text))
    if not found:
        return None
    name = choose.choice(found)
    other = choose.choice([one for one in names if one not in text])
    return text[: name.start()] + other + text[name.end() :]


def _negate(text: str) -> str | None:
    if _NEGATION.search(text):
        return _NEGATION.sub(lambda found: found[0][: -len("not")].rstrip(), text, count=1)
    changed, count = _NEGATABLE.subn(r"\1 not", text, count=1)
    return changed if count else None
