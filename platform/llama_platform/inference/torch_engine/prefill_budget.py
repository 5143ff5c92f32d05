"""PrefillBudget: how many tokens of prompts a step may compute without making running answers stutter."""

_WEIGHT = 0.2
"""Of a new observation in the running means."""


class PrefillBudget:
    """Learns from the steps' durations; pure arithmetic."""

    def __init__(self, limit: int, stretch: float = 1.9, least: int = 16) -> None:
        """Begin without observations.

        Args:
            limit: bound on the tokens.
            stretch: how much longer than a step without prompts one with prompts may take, while up to two requests
                wait for their first token; more of them stretch it in proportion.
            least: tokens that prompts get in any case, so that they get on.
        """
        self._limit, self._stretch, self._least = limit, stretch, least
        self._plain_s: float | None = None
        self._token_s: float | None = None

    def tokens(self, generating: int, pending: int) -> int:
        """Return the tokens of prompts for the next step.

        Args:
            generating: sequences that would have to wait longer for their next token.
            pending: sequences that wait for their first one.
        """
        if not generating:
            return self._limit
        share = max(1.0, pending / 2, pending / generating)
        if self._plain_s is None or not self._token_s:
            return min(self._limit, int(4 * self._least * share))
        extra_s = (self._stretch - 1) * self._plain_s * share
        return max(self._least, min(self._limit, int(extra_s / self._token_s)))

    def note(self, generating: int, prompt_tokens: int, seconds: float) -> None:
        """Learn from the duration of a step."""
        if generating and not prompt_tokens:
            self._plain_s = _mean(self._plain_s, seconds)
        elif generating and self._plain_s is not None:
            self._token_s = _mean(self._token_s, max(0.0, seconds - self._plain_s) / prompt_tokens)


def _mean(known: float | None, new: float) -> float:
    return new if known is None else known + _WEIGHT * (new - known)
