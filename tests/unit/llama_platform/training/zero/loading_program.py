"""Loads a base for ZeRO stage 3 and prints by how many MiB the process grew at most; run by tests, one for each worker.

python loading_program.py RANK WORLD RENDEZVOUS FOLDER whole|sharded
"""

import json
import os
import sys
import threading
import time

import psutil
import torch
import transformers  # noqa: F401 - what it takes is not the base's

from llama_platform.models.adapter import attach_lora
from llama_platform.models.base_model import BaseConfig, base_folder, load_base_model
from llama_platform.models.lora_settings import LoraSettings
from llama_platform.models.weight_files import Weights
from llama_platform.training.config import TrainingConfig
from llama_platform.training.step import prepare_for_training
from llama_platform.training.zero.engine import init_deepspeed, start_engine
from llama_platform.training.zero.loading import load_sharded_base


def main():
    rank, world, meeting, folder, way = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]
    os.environ |= {"LOCAL_RANK": str(rank), "RANK": str(rank), "WORLD_SIZE": str(world)}
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world)
    init_deepspeed(threads=1)
    base = BaseConfig(model=folder, prompt_style="plain", dtype="bfloat16")
    training = TrainingConfig(use_gpu=False, zero_stage=3, micro_batch_size=1, accumulation_steps=1)
    process, done, sizes = psutil.Process(), threading.Event(), []
    before = process.memory_info().rss

    def watch():
        while not done.is_set():
            sizes.append(process.memory_info().rss)
            time.sleep(0.005)

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    model = load_sharded_base(base, training) if way == "sharded" else load_base_model(base)
    model = attach_lora(model, LoraSettings(), seed=0)
    engine = start_engine(prepare_for_training(model, gradient_checkpointing=False, packed=True), training, 1)
    done.set()
    watching.join()
    print(json.dumps({"mib": (max(sizes) - before) / 2**20, "different": different(engine, base)}))


def different(engine, base):
    """Return the frozen parameters that are not as the files have them."""
    import deepspeed

    weights, found = Weights(base_folder(base)), []
    for name, parameter in engine.module.named_parameters():
        if parameter.requires_grad:
            continue
        with deepspeed.zero.GatheredParameters([parameter]):
            plain = name.removeprefix("model.").removeprefix("base_model.model.").replace(".base_layer", "")
            if not torch.equal(parameter, weights.read(plain, tuple(parameter.shape))):
                found.append(name)
    return found


main()
