"""Checkpoints hold all that a run needs: state is taken from one DeepSpeed engine and put into another."""

import json
import subprocess
import sys

import pytest

# DeepSpeed keeps state in its process, so each run has one of its own.
PROGRAM = """
import json, os, sys, tempfile
import deepspeed, deepspeed.ops, torch
vars(deepspeed.ops)["__compatible_ops__"] = {}
torch.manual_seed(0)
torch.set_num_threads(1)
rendezvous = tempfile.mktemp()
torch.distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=0, world_size=1)
os.environ |= {"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "1"}
deepspeed.init_distributed(dist_backend="gloo", dist_init_required=False)
from llama_platform.models.adapter import LoraSettings, attach_lora
from llama_platform.models.base_model import BaseConfig, load_base_model
from llama_platform.training.config import TrainingConfig
from llama_platform.training.deepspeed_config import deepspeed_config
from llama_platform.training.step import prepare_for_training
from llama_platform.training.zero_state import gather_moments, gather_weights, load_weights, restore

training = TrainingConfig(use_gpu=False, zero_stage=int(sys.argv[1]), micro_batch_size=2, precision="float32")
ids = torch.arange(40).view(2, 20) + 300

def start(weights=None):
    base = load_base_model(BaseConfig(model="tiny", prompt_style="plain", dtype="float32"))
    model = attach_lora(base, LoraSettings(r=4, dropout=0.0, targets="all-linear"), seed=0)
    if weights:
        load_weights(model, weights)
    module = prepare_for_training(model, gradient_checkpointing=False)
    parameters = [p for p in module.parameters() if p.requires_grad]
    engine, *_ = deepspeed.initialize(model=module, model_parameters=parameters,
                                      config=deepspeed_config(training, 1), dist_init_required=False)
    return engine, model

def train(engine, steps):
    losses = []
    for _ in range(steps):
        for group in engine.optimizer.param_groups:
            group["lr"] = 1e-2
        loss = engine(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids) / 38
        engine.backward(loss)
        engine.step()
        losses.append(loss.item())
    return losses

engine, model = start()
whole = train(engine, 3)
weights, moments = gather_weights(model), gather_moments(model)
whole += train(engine, 3)
engine, model = start(weights)
restore(engine, model, weights, moments, 3)
resumed = train(engine, 3)
print(json.dumps({"whole": whole, "resumed": resumed}))
"""


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_a_restored_engine_continues_the_same_curve(stage):
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(stage)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    curves = json.loads(done.stdout.splitlines()[-1])
    assert curves["resumed"] == pytest.approx(curves["whole"][3:], rel=1e-6)
    assert curves["whole"][-1] < curves["whole"][0]
