"""Words of a text, and how often they repeat themselves."""

import re

# Scripts without spaces between words count by the character.
_WORDS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|\w+")


def words(text: str) -> list[str]:
    """Return the words of a text, in lower case."""
    return _WORDS.findall(text.lower())


def repetition(text: str) -> float:
    """Return the share of word triples that stood in the text before, 0 for fewer than four words."""
    parts = words(text)
    triples = [tuple(parts[i : i + 3]) for i in range(len(parts) - 2)]
    return 1 - len(set(triples)) / len(triples) if len(triples) > 1 else 0.0
