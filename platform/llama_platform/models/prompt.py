"""Prompts: the only renderer from chats to text and tokens.

Training and serving both come here, so that a model is asked in exactly the form in which it was taught.
`PromptTemplate.fingerprint` identifies that form; it is stored with every adapter, and serving compares it.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from llama_platform.errors import InputError
from llama_platform.models.tools import sample

PromptStyle = Literal["llama2", "plain"]
_FRAME = re.compile(r"\[/?INST\]|<</?SYS>>|</?s>|#{2,}\s*(?:Human|User|Assistant|System)\s*:", re.IGNORECASE)
_EMPTY_LINES = re.compile(r"\A(?:[ \t]*\n)+")
_FRAME_SIGNS = str.maketrans("[]<>#", "()()=")
Role = Literal["system", "user", "assistant"]
_FIRST_TOOLS = "c94690cb28c4e40fada0996a00af08c5411fa9b35ec2e6fd595e5fbc23b6164b"
"""Digest of the first form that tools had. It is no part of a fingerprint: adapters that are older than tools are asked
in the form in which they were taught."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat."""

    role: Role
    content: str
    trained: bool | None = None
    """Whether its tokens count in the loss; None for what is usual: those of the assistant do."""

    def counts(self) -> bool:
        """Return whether its tokens count in the loss."""
        return self.role == "assistant" if self.trained is None else self.trained


@dataclass(frozen=True, slots=True)
class Exchange:
    """What the model reads and what it should answer; `answer` is None where it is to be generated."""

    prompt: str
    answer: str | None
    trained: tuple[bool, bool] = (False, True)
    """Whether the tokens of (prompt, answer) count in the loss."""
    untrained_chars: int = 0
    """Characters at the beginning of the prompt that do not count in any case: a system turn that is not trained."""


@dataclass(frozen=True, slots=True)
class TokenizedChat:
    """Token ids of a chat; `trained` marks those that count in the loss (usually answers and their end of turn)."""

    input_ids: list[int]
    trained: list[bool]


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """Renders chats in one of two styles with one tokenizer.

    `llama2` is Meta's format, `<s>[INST] <<SYS>> system <</SYS>> user [/INST] answer </s>` per exchange, with line ends
    around the system text (source: `chat_completion` in meta-llama/llama, generation.py). The system text keeps its
    padding, and a space stands before the end of an answer.
    `plain` is `### Human: user` / `### Assistant: answer</s>`.

    Each exchange is tokenized as one text. BOS and EOS are added as ids, and the text itself is tokenized
    with special tokens split, so that no message can hold a beginning or an end of turn as a token.
    """

    tokenizer: Any
    style: PromptStyle

    def fingerprint(self) -> str:
        """Return sha256 (hex) over the template, the tokenizer and its special tokens."""
        probe = [
            Message("system", " S "),  # padded, since styles differ in what they keep of that
            Message("user", "U"),
            Message("assistant", "A"),
            Message("user", "V"),
        ]
        parts: dict[str, Any] = {
            "style": self.style,
            "rendered": [[exchange.prompt, exchange.answer] for exchange in render(probe, self.style)],
            "tokenizer": _tokenizer_digest(self.tokenizer),
            "special": [self.tokenizer.bos_token_id, self.tokenizer.eos_token_id],
        }
        tools = _digest(sample())
        if tools != _FIRST_TOOLS:
            parts["tools"] = tools
        return _digest(parts)

    def pad_token_id(self) -> int:
        """Return the id that fills batches, where it is masked: EOS. A tokenizer's own may lie beyond the embedding."""
        return int(self.tokenizer.eos_token_id)

    def stop_strings(self) -> tuple[str, ...]:
        """Return texts after which an answer is over even without an end-of-turn token."""
        return ("### Human:",) if self.style == "plain" else ("[INST]",)

    def encode_chat(self, messages: Sequence[Message]) -> TokenizedChat:
        """Tokenize a whole chat for training.

        Raises:
            InputError: the roles are not an optional system turn followed by user and assistant in turn.
        """
        input_ids: list[int] = []
        trained: list[bool] = []
        for exchange in self.encode_exchanges(messages):
            input_ids += exchange.input_ids
            trained += exchange.trained
        return TokenizedChat(input_ids, trained)

    def encode_exchanges(self, messages: Sequence[Message]) -> list[TokenizedChat]:
        """Tokenize a chat exchange by exchange; one after another, they are the chat.

        Raises:
            InputError: the roles are not an optional system turn followed by user and assistant in turn.
        """
        found = []
        for index, exchange in enumerate(render(messages, self.style)):
            prompt_ids, answer_ids, untrained = self._encode_exchange(exchange, first=index == 0)
            trained = [exchange.trained[0]] * len(prompt_ids) + [exchange.trained[1]] * len(answer_ids)
            trained[:untrained] = [False] * untrained
            found.append(TokenizedChat(prompt_ids + answer_ids, trained))
        return found

    def encode_prompt(self, messages: Sequence[Message]) -> list[int]:
        """Tokenize a chat that ends with a user turn, ready for the answer to be generated.

        Raises:
            InputError: the roles are out of order, or the last turn is not the user's.
        """
        tokens = self.encode_chat(messages)
        if messages[-1].role != "user":
            raise InputError("messages: the last turn must be the user's; append the question to be answered")
        return tokens.input_ids

    def encode_prefix(self, messages: Sequence[Message]) -> list[int]:
        """Tokenize a chat that ends with the beginning of an answer, ready for the rest of it to be generated.

        Raises:
            InputError: the roles are out of order, or the last turn is not the assistant's.
        """
        check_roles(messages)
        if messages[-1].role != "assistant":
            raise InputError("messages: the last turn must be the assistant's, which is continued")
        *before, last = render(messages[:-1], self.style)
        begun = Exchange(f"{last.prompt} {STRIPS[self.style](messages[-1].content)}".rstrip(), None)
        input_ids: list[int] = []
        for index, exchange in enumerate([*before, begun]):
            prompt_ids, answer_ids, _ = self._encode_exchange(exchange, first=index == 0)
            input_ids += prompt_ids + answer_ids
        return input_ids

    def encode_text(self, text: str) -> list[int]:
        """Tokenize a text that is to be gone on with, as it is, behind BOS; no text can hold a special token.

        Raises:
            InputError: it holds half a character.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError(f"prompt: half a character (a lone surrogate) at position {error.start}") from error
        ids = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return [self.tokenizer.bos_token_id, *ids]

    def _encode_exchange(self, exchange: Exchange, *, first: bool) -> tuple[list[int], list[int], int]:
        """Return the tokens of prompt and answer, and how many of the first are of its untrained beginning."""
        text = exchange.prompt + (exchange.answer or "")
        encoded = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True)
        ids: list[int] = encoded["input_ids"]
        boundary = len(exchange.prompt)
        split = next((i for i, (_, end) in enumerate(encoded["offset_mapping"]) if end > boundary), len(ids))
        # Llama-2 opens every exchange with BOS; the plain style, one running text, only the first.
        bos = [self.tokenizer.bos_token_id] if first or self.style == "llama2" else []
        eos = [] if exchange.answer is None else [self.tokenizer.eos_token_id]
        untrained = 0
        if exchange.untrained_chars:
            ends = [end for _, end in encoded["offset_mapping"]]
            untrained = len(bos) + sum(end <= exchange.untrained_chars for end in ends)
        return bos + ids[:split], ids[split:] + eos, untrained


def _tokenizer_digest(tokenizer: Any) -> str:
    # Truncation and padding are settings of a call, which the tokenizer remembers; they do not change what it knows.
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    return _digest({key: value for key, value in state.items() if key not in ("truncation", "padding")})


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def render(messages: Sequence[Message], style: PromptStyle) -> list[Exchange]:
    """Render a chat as exchanges of plain text, without special tokens.

    Raises:
        InputError: the roles are not an optional system turn followed by user and assistant in turn.
    """
    check_roles(messages)
    system = messages[0].content if messages[0].role == "system" else None
    turns = messages[1:] if system is not None else messages
    exchanges, strip = [], STRIPS[style]
    for index in range(0, len(turns), 2):
        answered = index + 1 < len(turns)
        prompt = _PROMPTS[style](turns[index].content, system if index == 0 else None, index == 0)
        trained = (turns[index].counts(), answered and turns[index + 1].counts())
        answer = f" {strip(turns[index + 1].content)}{_ANSWER_ENDS[style]}" if answered else None
        bare = index == 0 and system is not None and messages[0].trained is False
        # All but the user's own text, which stands at the prompt's end.
        untrained = len(prompt) - len(_PROMPT_ENDS[style]) - len(strip(turns[index].content)) if bare else 0
        exchanges.append(Exchange(prompt, answer, trained, untrained))
    return exchanges


def _llama2_prompt(user: str, system: str | None, _first: bool) -> str:
    frame = "" if system is None else f"<<SYS>>\n{system}\n<</SYS>>\n\n"
    return f"[INST] {(frame + user).strip()}{_PROMPT_ENDS['llama2']}"


def _plain_prompt(user: str, system: str | None, first: bool) -> str:
    opening = (system or "").strip()
    frame = f"{opening}\n\n" if opening else ("" if first else "\n")
    return f"{frame}### Human: {strip_lines(user)}{_PROMPT_ENDS['plain']}"


def strip_lines(text: str) -> str:
    """Return a text without empty lines before it and white space behind it; its first line's indentation stays."""
    return _EMPTY_LINES.sub("", text).rstrip()


STRIPS: Mapping[PromptStyle, Callable[[str], str]] = {"llama2": str.strip, "plain": strip_lines}
"""What each style does to the white space around a turn: Meta's removes it, ours keeps indentation, as of code."""
_PROMPTS: Mapping[PromptStyle, Callable[[str, str | None, bool], str]] = {
    "llama2": _llama2_prompt,
    "plain": _plain_prompt,
}
_PROMPT_ENDS: Mapping[PromptStyle, str] = {"llama2": " [/INST]", "plain": "\n### Assistant:"}
_ANSWER_ENDS: Mapping[PromptStyle, str] = {"llama2": " ", "plain": ""}


def frames(text: str) -> list[str]:
    """Return what in a text looks like the frame of a turn, in order, each once."""
    return list(dict.fromkeys(found[0] for found in _FRAME.finditer(text)))


def neutralize(text: str) -> str:
    """Return a text that is shown to the model as data, with nothing in it that looks like the frame of a turn.

    Characters are replaced one for one, so that places in the text stay the same.
    """
    return _FRAME.sub(lambda found: found[0].translate(_FRAME_SIGNS), text)


def check_roles(messages: Sequence[Message]) -> None:
    """Check that an optional system turn is followed by user and assistant in turn, user first.

    Raises:
        InputError: naming the first turn that is out of order.
    """
    if not messages:
        raise InputError("messages: empty; at least one user turn is needed")
    turns = messages[1:] if messages[0].role == "system" else messages
    if not turns:
        raise InputError("messages: only a system turn; at least one user turn is needed")
    for index, message in enumerate(turns):
        try:
            message.content.encode()
        except UnicodeEncodeError as error:
            broken = f"turn {index + len(messages) - len(turns) + 1} holds half a character (a lone surrogate)"
            raise InputError(f"{broken} at position {error.start}") from error
        expected = "user" if index % 2 == 0 else "assistant"
        if message.role != expected:
            position = index + len(messages) - len(turns) + 1
            raise InputError(f"turn {position} is by '{message.role}' where '{expected}' must speak")
