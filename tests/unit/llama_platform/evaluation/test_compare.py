import json

import pytest
import torch

from datasets_of_sources import publish_sources
from llama_platform.artifacts.repository import open_repository
from llama_platform.data.config import DataConfig
from llama_platform.errors import InputError, NotFoundError
from llama_platform.evaluation.compare import evaluate, find_candidate
from llama_platform.models.adapter import attach_lora, save_adapter
from llama_platform.models.base_model import load_base_model
from llama_platform.models.lora_settings import LoraSettings
from llama_platform.training.config import EvaluationConfig, FinetuneConfig


@pytest.fixture
def repository(tmp_path):
    return open_repository((tmp_path / "store").as_uri(), tmp_path / "cache")


@pytest.fixture
def config(repository, tmp_path, tiny_config):
    path = tmp_path / "chats.jsonl"
    records = [{"input": f"what is {n}?", "output": f"it is the number {n}"} for n in range(60)]
    path.write_text("\n".join(map(json.dumps, records)))
    data = DataConfig(sources=(str(path),), eval_fraction=0.2, report_folder=tmp_path / "report")
    dataset, _ = publish_sources(repository, data, tiny_config)
    for seed in (1, 2):
        model = attach_lora(load_base_model(tiny_config), LoraSettings(r=4), seed=0)
        torch.manual_seed(seed)
        state = {n: torch.randn_like(p) * 0.05 * seed for n, p in model.named_parameters() if p.requires_grad}
        facts = {"base": "tiny", "prompt_style": "plain", "dataset": {"name": "chats", "version": dataset.version}}
        folder = tmp_path / f"adapter{seed}"
        save_adapter(model, state, folder, facts)
        repository.publish("adapter", "assistant", folder, facts)
    evaluation = EvaluationConfig(answered_chats=3, samples=1, max_new_tokens=6, prompts=("hello",))
    return FinetuneConfig(base=tiny_config, data=data, evaluation=evaluation, training={"use_gpu": False})


def choose(config, **changes):
    return config.model_copy(update={"evaluation": config.evaluation.model_copy(update=changes)})


def test_an_adapter_beside_its_base(repository, config, tmp_path):
    found = evaluate(repository, config, tmp_path / "tokens")
    assert (found.candidate.label, found.against.label) == ("assistant@2", "base")
    assert set(found.candidate.measures) >= {"loss", "perplexity", "token_accuracy", "rouge_l", "unstopped"}
    assert found.candidate.measures["loss"] != found.against.measures["loss"]
    assert found.samples[0].prompt == "hello"
    assert len(found.samples) == 2
    assert found.samples[1].reference.startswith("it is the number")


def test_any_two_adapters(repository, config, tmp_path):
    both = evaluate(repository, choose(config, adapter="assistant@1", against="assistant@2"), tmp_path / "tokens")
    base = evaluate(repository, choose(config, adapter="base", against="assistant@2"), tmp_path / "tokens")
    assert both.against.measures["loss"] == pytest.approx(base.against.measures["loss"], rel=1e-6)
    assert both.candidate.measures["loss"] < both.against.measures["loss"]


def test_an_adapter_is_not_compared_with_itself(repository, config, tmp_path):
    with pytest.raises(InputError, match="compared with itself"):
        evaluate(repository, choose(config, adapter="assistant@2", against="assistant@2"), tmp_path / "tokens")
    with pytest.raises(NotFoundError):
        find_candidate(repository, "nobody@1", "assistant")
