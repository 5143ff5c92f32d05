"""The contestants of `benchmarks.training` that are not jobs; each run is a process (or two) of its own.

    python -m benchmarks.training_contestants NAME MODEL DATASET MICRO_BATCHES

prints one JSON object: useful (non-padding) tokens, padded tokens, seconds, and memory above the loaded model.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch

from llama_platform.processor import matmul_gflops

LORA = {"r": 64, "lora_alpha": 16, "lora_dropout": 0.1, "target_modules": ["q_proj", "v_proj"]}
BATCH, ACCUMULATION, WARM_UP = 4, 4, 1
BETA = 0.1


def main() -> None:
    """Run the contestant that the command line names; the first process prints."""
    name, model, dataset, count = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
    world = int(os.environ.get("WORLD_SIZE", "1"))
    torch.set_num_threads(2 // world)
    contestants = {
        "gemm": lambda: {"gflops": matmul_gflops()},
        "check": lambda: check_losses(model, dataset),
        "torchrun": lambda: run_ours(model, dataset, count),
        "trl": lambda: run_trainer("trl", model, dataset, count),
        "dpo_check": lambda: check_preferences(model, dataset),
        "dpo": lambda: run_ours(model, dataset, count, BETA),
        "dpo_trl": lambda: run_trainer("dpo_trl", model, dataset, count),
        "hf": lambda: run_trainer("hf", model, dataset, count),
        "hf_grouped": lambda: run_trainer("hf_grouped", model, dataset, count),
        "hf_512": lambda: run_trainer("hf_512", model, dataset, count),
    }
    result = contestants[name]()
    if os.environ.get("RANK", "0") == "0":
        print(json.dumps(result), flush=True)


def load_rows(dataset: Path) -> Any:
    """Return the tokenized chats."""
    import datasets

    datasets.disable_progress_bars()
    return datasets.Dataset.from_parquet(str(dataset))


def lora_model(model: str) -> Any:
    """Return the base in bfloat16 with LoRA as every contestant has it, and start counting memory from here."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16, attn_implementation="sdpa")
    return get_peft_model(base, LoraConfig(**LORA, task_type="CAUSAL_LM"), autocast_adapter_dtype=False)


class MemoryAboveModel:
    """Peak of this process's resident memory above what it has once the model is loaded, in MiB."""

    def __init__(self) -> None:
        """Reset the kernel's mark."""
        self._start = _status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")

    def peak_mib(self) -> float:
        """Return the peak since then."""
        return (_status("VmHWM") - self._start) / 1024


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1])
    raise KeyError(key)


def check_losses(model: str, dataset: Path) -> dict[str, float]:
    """Return the loss of some chats by our packed step and by transformers, both without dropout."""
    from llama_platform.data.packing import pack
    from llama_platform.data.tokenize import collate
    from llama_platform.training.step import prepare_for_training

    rows = [load_rows(dataset)[index] for index in range(6)]
    plain = lora_model(model).eval()
    batch = collate(rows, 0)
    with torch.no_grad():
        theirs = plain(**batch).loss.item()
        counted = int((batch["labels"][:, 1:] != -100).sum())
        ours = prepare_for_training(plain, gradient_checkpointing=False, packed=True).eval()(**pack(rows)).item()
    return {"ours": ours / counted, "transformers": theirs}


def check_preferences(model: str, dataset: Path) -> dict[str, float]:
    """Return the mean DPO loss of some pairs, and the norm of its gradient, by our packed step and by TRL's trainer."""
    from llama_platform.training.batching.batches import collate_rows
    from llama_platform.training.step import prepare_for_training

    rows, found = load_rows(dataset), {}
    first = [rows[index] for index in range(4)]
    for name in ("trl", "ours"):
        adapted = lora_model(model)
        torch.manual_seed(1)
        for key, parameter in adapted.named_parameters():
            if "lora_B" in key:
                torch.nn.init.normal_(parameter, std=0.02)
        if name == "trl":
            trainer = _dpo_trainer(adapted, rows, TRAINER_SETTINGS | {"max_steps": 1})
            loss = trainer.compute_loss(adapted.eval(), trainer.data_collator(first))
        else:
            module = prepare_for_training(adapted, gradient_checkpointing=False, packed=True, beta=BETA).eval()
            loss = module(**collate_rows(first, 0, packed=True)) / len(first)
        loss.backward()
        gradients = [p.grad.float() for p in adapted.parameters() if p.grad is not None]
        found[name] = loss.item()
        found[f"{name} gradient"] = float(torch.nn.utils.get_total_norm(gradients))
    return found


def run_ours(model: str, dataset: Path, count: int, beta: float | None = None) -> dict[str, float]:
    """Run the platform's step under torch.distributed alone; with `beta`, on pairs."""
    import torch.distributed as dist

    from llama_platform.training.batching.batches import TrainingData
    from llama_platform.training.config import TrainingConfig
    from llama_platform.training.step import TrainingStep, prepare_for_training
    from llama_platform.training.zero.engine import init_deepspeed, start_engine

    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    init_deepspeed(threads=2 // world)
    training = TrainingConfig(
        use_gpu=False, workers=world, micro_batch_size=BATCH, accumulation_steps=ACCUMULATION, zero_stage=2
    )
    module = prepare_for_training(lora_model(model), gradient_checkpointing=False, packed=True, beta=beta)
    memory = MemoryAboveModel()
    step = TrainingStep(start_engine(module, training, ACCUMULATION), torch.device("cpu"), seed=0)
    size = BATCH * ACCUMULATION * world
    data = TrainingData(load_rows(dataset), 0, BATCH, "packed", seed=0)
    tokens, start = 0, 0.0
    for number in range(WARM_UP + max(2, count // (ACCUMULATION * world))):
        if number == WARM_UP:
            tokens, start = 0, time.perf_counter()
        part = data.step(number, size, rank, world)
        total = step.run(number, part.batches, part.count, part.trained_tokens, 2e-4)
        dist.all_reduce(total)
        tokens += part.tokens
    return {"tokens": tokens, "padded": tokens, "seconds": time.perf_counter() - start, "memory_mib": memory.peak_mib()}


TRAINER_SETTINGS: dict[str, Any] = {
    "output_dir": "/tmp/bench-trainer",
    "per_device_train_batch_size": BATCH,
    "learning_rate": 2e-4,
    "logging_strategy": "no",
    "save_strategy": "no",
    "report_to": "none",
    "use_cpu": True,
    "bf16": False,  # the weights are in bfloat16 already; autocast on top of that is slower
    "dataloader_pin_memory": False,
    "disable_tqdm": True,
    "remove_unused_columns": False,
    "seed": 0,
}


def run_trainer(name: str, model: str, dataset: Path, count: int) -> dict[str, float]:
    """Run transformers' Trainer or TRL's SFTTrainer on the same chats, batch and LoRA."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    from llama_platform.data.tokenize import collate

    rows = load_rows(dataset)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    # TRL's rows of 512 tokens are full: four of them are as many tokens as the others accumulate.
    accumulation = 1 if name == "trl" else max(1, ACCUMULATION // world)
    peft_model = lora_model(model)
    memory = MemoryAboveModel()
    seen = {"tokens": 0, "padded": 0, "start": 0.0, "batches": 0}

    class Count(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == WARM_UP:
                seen.update(tokens=0, padded=0, start=time.perf_counter())

    common = TRAINER_SETTINGS | {
        "gradient_accumulation_steps": accumulation,
        "max_steps": WARM_UP + max(1, count // (accumulation * world)),
    }
    if name in ("trl", "dpo_trl"):
        trainer = (_trl_trainer if name == "trl" else _dpo_trainer)(peft_model, rows, common)
        collator = trainer.data_collator
    else:
        strategy = "group_by_length" if name == "hf_grouped" else "random"
        arguments = TrainingArguments(**common, train_sampling_strategy=strategy)
        longest = 512 if name == "hf_512" else 0

        def collator(batch: list[Any]) -> dict[str, torch.Tensor]:
            return _padded(collate(batch, 0), longest)

        trainer = Trainer(peft_model, arguments, train_dataset=rows, data_collator=collator)

    def counting(batch: list[dict[str, Any]]) -> Any:
        made = collator(batch)
        seen["padded"] += made["input_ids"].numel()
        mask = made.get("attention_mask")
        seen["tokens"] += made["input_ids"].numel() if mask is None else int(mask.sum())
        return made

    trainer.data_collator = counting
    trainer.add_callback(Count())
    trainer.train()
    seconds = time.perf_counter() - seen["start"]
    # Every process counts its own batches; they see equally many.
    return {
        "tokens": seen["tokens"] * world,
        "padded": seen["padded"] * world,
        "seconds": seconds,
        "memory_mib": memory.peak_mib(),
    }


def _padded(batch: dict[str, torch.Tensor], longest: int) -> dict[str, torch.Tensor]:
    missing = longest - batch["input_ids"].shape[1]
    if missing <= 0:
        return batch
    fill = {"input_ids": 0, "attention_mask": 0, "labels": -100}
    return {key: torch.nn.functional.pad(value, (0, missing), value=fill[key]) for key, value in batch.items()}


def _trl_trainer(model: Any, rows: Any, common: dict[str, Any]) -> Any:
    from trl import SFTConfig, SFTTrainer

    def with_labels(row: dict[str, Any]) -> dict[str, Any]:
        pairs = zip(row["input_ids"], row["trained"], strict=True)
        return {"labels": [token if trained else -100 for token, trained in pairs]}

    from transformers import AutoTokenizer

    labelled = rows.map(with_labels, remove_columns=["trained", "length", "num_trained"])
    tokenizer = AutoTokenizer.from_pretrained(model.get_base_model().config._name_or_path)
    arguments = SFTConfig(**common | {"remove_unused_columns": True}, packing=True, max_length=512, loss_type="nll")
    return SFTTrainer(model, arguments, train_dataset=labelled, processing_class=tokenizer)


def _dpo_trainer(model: Any, rows: Any, common: dict[str, Any]) -> Any:
    from transformers import AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    class WithIds(DPOTrainer):
        """Takes pairs that are tokenized already, as ours does."""

        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset

    columns = ["prompt_ids", "chosen_ids", "rejected_ids"]
    tokenizer = AutoTokenizer.from_pretrained(model.get_base_model().config._name_or_path)
    arguments = DPOConfig(**common, beta=BETA, max_length=None)
    return WithIds(model, args=arguments, train_dataset=rows.select_columns(columns), processing_class=tokenizer)


if __name__ == "__main__":
    main()
