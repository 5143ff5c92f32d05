"""What the training steps are measured with."""

import random
from typing import Any

from llama_platform.models.random_base import LLAMA_2_7B

TINY = LLAMA_2_7B | {
    "hidden_size": 256,
    "intermediate_size": 688,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 1024,
}
"""The shape with which the check itself is tried."""


def random_chats(count: int, longest: int, vocabulary: int) -> Any:
    """Return a `datasets.Dataset` of tokenized chats with log-normal lengths, half of each in the loss."""
    from datasets import Dataset

    choose, rows = random.Random(0), []
    for _ in range(count):
        length = min(longest, max(16, int(choose.lognormvariate(5.0, 0.7))))
        ids = [choose.randrange(3, vocabulary) for _ in range(length)]
        trained = [place >= length // 2 for place in range(length)]
        rows.append({"input_ids": ids, "trained": trained, "length": length, "num_trained": sum(trained)})
    return Dataset.from_list(rows)
