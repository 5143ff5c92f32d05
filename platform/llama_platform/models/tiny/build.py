"""The tiny base: a real `LlamaForCausalLM`, small enough to be shipped and to run where there is no GPU.

Its weights lie in `weights/` beside this file; `python -m jobs.shipped.tiny_base` makes them again. The tokenizer
(byte-level BPE) and the weights learn from passages of documents and from `corpus`.
"""

import itertools
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from llama_platform.models.prompt import PromptTemplate, render
from llama_platform.models.tiny import corpus

SPECIAL_TOKENS = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
TOKENIZER_TEXTS = 6000
Passages = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyLlamaSpec:
    """Shape and training length of the tiny base."""

    vocab_size: int = 3072
    hidden_size: int = 256
    intermediate_size: int = 640
    num_layers: int = 4
    num_heads: int = 4
    max_positions: int = 2048
    steps: int = 2400
    """Optimizer steps; the learning rate falls to zero over them."""
    batch_rows: int = 4
    row_tokens: int = 1024
    """Chats and prose are concatenated into rows of this length."""
    learning_rate: float = 2e-2
    """For the weight matrices, by Muon; embeddings and norms take a tenth of it by AdamW."""
    seed: int = 0


def build_tiny_llama(
    folder: Path, passages: Passages, spec: TinyLlamaSpec, origin: dict[str, Any], on_step: Callable[[int, float], None]
) -> None:
    """Train tokenizer and weights, and write them to `folder` as a model that transformers opens, in bfloat16.

    Args:
        folder: made if needed.
        passages: (title, text) of documents to read.
        spec: shape and length.
        origin: facts to keep in `base.json`.
        on_step: called with the step's number and loss.
    """
    tokenizer = train_tokenizer(_plain_texts(spec, passages), spec.vocab_size)
    model = build_model(spec, tokenizer)
    pretrain(model, pack_rows(spec, PromptTemplate(tokenizer, "plain"), passages), spec, on_step)
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    facts = {"spec": asdict(spec), **origin}
    (folder / "base.json").write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def train_tokenizer(texts: Iterator[str], vocab_size: int) -> Any:
    """Train a byte-level BPE tokenizer and return it as a transformers fast tokenizer."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=2048, **SPECIAL_TOKENS)


def build_model(spec: TinyLlamaSpec, tokenizer: Any) -> Any:
    """Return a freshly initialised float32 `LlamaForCausalLM` of the spec's shape."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(spec.seed)
    config = LlamaConfig(
        vocab_size=spec.vocab_size,
        hidden_size=spec.hidden_size,
        intermediate_size=spec.intermediate_size,
        num_hidden_layers=spec.num_layers,
        num_attention_heads=spec.num_heads,
        num_key_value_heads=spec.num_heads,
        max_position_embeddings=spec.max_positions,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def pack_rows(spec: TinyLlamaSpec, template: PromptTemplate, passages: Passages) -> Iterator[torch.Tensor]:
    """Yield int64 batches [batch_rows, row_tokens] of base text, without end."""
    tokenizer = template.tokenizer
    stream: list[int] = []
    size = spec.batch_rows * spec.row_tokens
    for item in corpus.compose(random.Random(spec.seed), passages):
        if isinstance(item, str):
            stream += [tokenizer.bos_token_id, *tokenizer.encode(item), tokenizer.eos_token_id]
        else:
            stream += template.encode_chat(item).input_ids
        while len(stream) >= size:
            yield torch.tensor(stream[:size]).view(spec.batch_rows, spec.row_tokens)
            del stream[:size]


def pretrain(
    model: Any, batches: Iterator[torch.Tensor], spec: TinyLlamaSpec, on_step: Callable[[int, float], None]
) -> None:
    """Train all weights on next-token prediction, in bfloat16 autocast.

    Muon (Jordan et al., 2024) for the matrices gets further than AdamW in the few steps there are.

    Args:
        model: a causal language model in float32.
        batches: int64 [batch, length] token ids, at least `spec.steps` of them.
        spec: steps, learning rate and their schedule.
        on_step: called with the number of the step and its loss.
    """
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    optimizers = [
        torch.optim.Muon(matrices, lr=spec.learning_rate, weight_decay=0.01),
        torch.optim.AdamW(others, lr=spec.learning_rate / 5, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    base_rates = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
    warm_up = max(1, spec.steps // 20)
    model.train()
    for step in range(spec.steps):
        scale = min((step + 1) / warm_up, 0.02 + 0.98 * (1 - step / spec.steps))
        groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        for group, rate in zip(groups, base_rates, strict=True):
            group["lr"] = rate * scale
        tokens_BT = next(batches)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(input_ids=tokens_BT).logits
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), tokens_BT[:, 1:].flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        on_step(step + 1, loss.item())
    model.eval()


def _plain_texts(spec: TinyLlamaSpec, passages: Passages) -> Iterator[str]:
    yield from (f"{title}\n{text}" for title, text in passages)
    items = corpus.compose(random.Random(spec.seed + 1), passages)
    for item in itertools.islice(items, TOKENIZER_TEXTS):
        if isinstance(item, str):
            yield item
        else:
            yield from (exchange.prompt + (exchange.answer or "") for exchange in render(item, "plain"))
