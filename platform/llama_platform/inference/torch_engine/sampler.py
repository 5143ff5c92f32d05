"""Sampler: the next token of a request from its logits.

Each request draws from random numbers of its own, so a seed gives the same answer alone and in company. The rules are
those of transformers and of OpenAI's API: repetition penalty on all tokens (Keskar et al., 2019), presence and
frequency penalties on generated ones, then temperature, top-k, min-p (Nguyen et al., 2024) and top-p (Holtzman et al.,
2020), in this order: top-p is a share of what min-p has left, as in vLLM; transformers takes top-p first.
"""

from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np
import torch

from llama_platform.errors import NotFiniteError
from llama_platform.inference.protocol import SamplingParams, TokenLogprob
from llama_platform.inference.torch_engine.token_mask import TokenMask

NOT_FINITE = "the model's logits are not finite"


class Sampler:
    """Chooses the tokens of one request."""

    def __init__(
        self,
        sampling: SamplingParams,
        prompt_ids: Sequence[int],
        end_ids: Collection[int],
        mask: TokenMask | None = None,
    ) -> None:
        """Start a request.

        Args:
            sampling: how to choose.
            prompt_ids: the request's prompt.
            end_ids: tokens that end an answer; not chosen before `min_new_tokens`, unless nothing else may follow.
            mask: which tokens the answer's structure allows; None for all.
        """
        self._sampling = sampling
        self._generator = np.random.Generator(np.random.Philox(sampling.seed))
        self._seen = set(prompt_ids) if sampling.repetition_penalty != 1 else set()
        self._generated: Counter[int] = Counter()
        self._end_ids = sorted(end_ids)
        self._tokens, self._mask = 0, mask
        self._biased = torch.tensor([token for token, _ in sampling.logit_bias], dtype=torch.long)
        self._bias = torch.tensor([bias for _, bias in sampling.logit_bias], dtype=torch.float32)

    @property
    def plain(self) -> bool:
        """Return whether the most likely token is chosen, whatever came before."""
        s = self._sampling
        penalised = s.repetition_penalty != 1 or s.presence_penalty != 0 or s.frequency_penalty != 0
        free = self._mask is None and not s.logit_bias and not penalised and not self._bars_ends()
        return free and s.temperature == 0 and s.logprobs is None

    def choose(self, logits: torch.Tensor) -> tuple[int, TokenLogprob | None]:
        """Return the next token, and its log-probability if the request asks for it.

        Args:
            logits: float32 [vocabulary], of this request; left as they are.

        Raises:
            NotFiniteError: the logits are not finite.
        """
        sampling = self._sampling
        changed = self._penalised(logits)
        if sampling.temperature == 0:
            values = changed.numpy()  # its argmax is an order of magnitude faster than torch's
            token = int(values.argmax())
            if not np.isfinite(values[token]):
                raise NotFiniteError(NOT_FINITE)
        else:
            token = self._draw(changed)
        logprob = None if sampling.logprobs is None else token_logprob(logits, token, sampling.logprobs)
        self.note(token)
        return token, logprob

    def note(self, token: int) -> None:
        """Count a chosen token for the penalties."""
        self._tokens += 1
        self._generated[token] += 1
        if self._sampling.repetition_penalty != 1:
            self._seen.add(token)
        if self._mask is not None:
            self._mask.note(token)

    @property
    def ended(self) -> bool:
        """Whether the answer has the structure that was asked for, and nothing may follow."""
        return self._mask is not None and self._mask.ended

    def _bars_ends(self) -> bool:
        return self._tokens < self._sampling.min_new_tokens

    def _penalised(self, logits: torch.Tensor) -> torch.Tensor:
        sampling, changed = self._sampling, logits
        if sampling.logit_bias:
            changed = changed.clone()
            changed[self._biased] += self._bias
        if sampling.repetition_penalty != 1 and self._seen:
            changed = changed.clone()
            ids = torch.tensor(sorted(self._seen))
            values = changed[ids]
            changed[ids] = torch.where(
                values > 0, values / sampling.repetition_penalty, values * sampling.repetition_penalty
            )
        if (sampling.presence_penalty or sampling.frequency_penalty) and self._generated:
            changed = changed.clone()
            ids, times = (torch.tensor(list(part)) for part in (self._generated, self._generated.values()))
            changed[ids] -= sampling.presence_penalty + sampling.frequency_penalty * times
        allowed = None if self._mask is None else self._mask.allowed()
        if allowed is not None:
            changed = torch.from_numpy(np.where(allowed, changed.numpy(), np.float32(-np.inf)))
        if self._bars_ends() and (allowed is None or allowed.sum() > allowed[self._end_ids].sum()):
            changed = changed.clone()
            changed[self._end_ids] = -torch.inf
        return changed

    def _draw(self, logits: torch.Tensor) -> int:
        sampling = self._sampling
        values = logits.numpy() / np.float32(sampling.temperature)
        highest = values.max()
        if not np.isfinite(highest):
            raise NotFiniteError(NOT_FINITE)
        weights = np.exp(values - highest)
        floor = sampling.min_p
        if 0 < sampling.top_k < len(weights):
            floor = max(floor, float(np.partition(weights, -sampling.top_k)[-sampling.top_k]))
        ids = np.flatnonzero(weights >= floor) if floor > 0 else np.arange(len(weights))
        kept = weights[ids].astype(np.float64)
        if sampling.top_p < 1:
            # Tokens below an n-th of 1 - top_p weigh less than 1 - top_p together: outside, and need no sorting.
            total = kept.sum()
            heavy = kept >= (1 - sampling.top_p) * total / len(kept)
            ids, kept = ids[heavy], kept[heavy]
            order = np.argsort(-kept, kind="stable")
            nucleus = order[: 1 + int(np.searchsorted(np.cumsum(kept[order]), sampling.top_p * total))]
            ids, kept = ids[nucleus], kept[nucleus]
        reached = np.cumsum(kept)
        place = np.searchsorted(reached, self._generator.random() * reached[-1], side="right")
        return int(ids[min(int(place), len(ids) - 1)])


def token_logprob(logits: torch.Tensor, token: int, alternatives: int) -> TokenLogprob:
    """Return the log-probability of a token, and of the most likely ones.

    Args:
        logits: float32 [vocabulary].
        token: whose log-probability it is.
        alternatives: how many of the most likely ones.

    Raises:
        NotFiniteError: the logits are not finite.
    """
    logprobs = logits.log_softmax(dim=0)
    if not torch.isfinite(logprobs[token]):
        raise NotFiniteError(NOT_FINITE)
    best = logprobs.topk(alternatives) if alternatives else None
    top = () if best is None else tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True))
    return TokenLogprob(token, float(logprobs[token]), top)
