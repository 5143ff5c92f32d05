"""Trains the tiny base for some steps with torch.distributed and DeepSpeed alone; run by tests, one process per worker.

python training_program.py RANK WORLD RENDEZVOUS '{"name": {"stage": 2, …}, …}'
"""

import json
import os
import sys

import torch

from llama_platform.models.adapter import attach_lora
from llama_platform.models.base_model import BaseConfig, load_base_model
from llama_platform.models.lora_settings import LoraSettings
from llama_platform.training.batching.batches import TrainingData
from llama_platform.training.config import TrainingConfig
from llama_platform.training.step import TrainingStep, prepare_for_training
from llama_platform.training.zero.engine import init_deepspeed, start_engine
from llama_platform.training.zero.loading import load_sharded_base
from llama_platform.training.zero.state import gather_moments, gather_weights, load_weights, restore

GLOBAL_BATCH, MICRO_BATCH, STEPS = 8, 2, 20


class Run:
    """One engine and what it has measured."""

    def __init__(self, options, rank, world, weights=None):
        self.rank, self.world = rank, world
        precision = options.get("precision", "float32")
        training = TrainingConfig(
            use_gpu=False,
            zero_stage=options["stage"],
            micro_batch_size=MICRO_BATCH,
            precision=precision,
            offload=options.get("offload", "none"),
        )
        quantize = options.get("quantize", "none")
        base = BaseConfig(model="tiny", prompt_style="plain", dtype=precision, quantize=quantize)
        base = load_sharded_base(base, training) if training.zero_stage == 3 else load_base_model(base)
        settings = LoraSettings(r=4, dropout=options.get("dropout", 0.0), targets="all-linear")
        self.model = attach_lora(base, settings, seed=0)
        if weights:
            load_weights(self.model, weights)
        batching = options.get("batching", "packed")
        beta = options.get("beta")
        module = prepare_for_training(self.model, gradient_checkpointing=False, packed=batching == "packed", beta=beta)
        accumulation = GLOBAL_BATCH // MICRO_BATCH // world
        self.engine = start_engine(module, training, accumulation)
        self.step = TrainingStep(self.engine, torch.device("cpu"), seed=0)
        self.data = TrainingData(rows() if beta is None else pairs(), 0, MICRO_BATCH, batching, seed=0)

    def train(self, first, last):
        losses, self.norms = [], []
        for number in range(first, last):
            part = self.data.step(number, GLOBAL_BATCH, self.rank, self.world)
            nll = self.step.run(number, part.batches, part.count, part.trained_tokens, 1e-3)
            torch.distributed.all_reduce(nll)
            losses.append(nll.item() / part.trained_tokens)
            self.norms.append(self.step.grad_norm)
        return losses


def rows():
    """Return 40 chats of different lengths."""
    import datasets

    generator = torch.Generator().manual_seed(0)
    chats = []
    for number in range(40):
        ids = torch.randint(300, 400, (5 + 3 * (number % 9),), generator=generator).tolist()
        trained = [place >= len(ids) // 2 for place in range(len(ids))]
        chats.append({"input_ids": ids, "trained": trained, "length": len(ids), "num_trained": sum(trained[1:])})
    return datasets.Dataset.from_list(chats)


def pairs():
    """Return the same chats, each with the tokens of its answer the other way round as the worse one."""

    def paired(row):
        start = row["trained"].index(True)
        other = row["input_ids"][:start] + row["input_ids"][start:][::-1]
        sizes = {"length": 2 * len(other), "num_trained": 1}
        return {"rejected_input_ids": other, "rejected_trained": row["trained"], **sizes}

    return rows().map(paired)


def curves(options, rank, world):
    """Return the losses of a run and, if asked for, of its second half from the state in its middle."""
    run = Run(options, rank, world)
    whole = run.train(0, STEPS // 2)
    weights, moments = gather_weights(run.engine, run.model), gather_moments(run.engine, run.model)
    whole += run.train(STEPS // 2, STEPS)
    if not options.get("resume"):
        return {"whole": whole, "norms": run.norms}
    norms = run.norms
    run = Run(options, rank, world, weights)
    restore(run.engine, run.model, weights, moments, STEPS // 2)
    return {"whole": whole, "norms": norms, "resumed": run.train(STEPS // 2, STEPS)}


def main():
    rank, world, variants = int(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[4])
    os.environ |= {"LOCAL_RANK": str(rank), "RANK": str(rank), "WORLD_SIZE": str(world)}
    torch.distributed.init_process_group("gloo", init_method=f"file://{sys.argv[3]}", rank=rank, world_size=world)
    init_deepspeed(threads=1)
    print(json.dumps({name: curves(options, rank, world) for name, options in variants.items()}))


main()
