"""Loading a base for ZeRO stage 3: every worker holds no more than its part of it, from the beginning."""

from typing import Any

import torch
import torch.distributed as dist

from llama_platform.errors import InputError
from llama_platform.models.base_model import BaseConfig, base_folder
from llama_platform.models.weight_files import Weights
from llama_platform.training.config import TrainingConfig
from llama_platform.training.zero.config import deepspeed_config


def load_sharded_base(base: BaseConfig, training: TrainingConfig) -> Any:
    """Return a `LlamaForCausalLM` whose parameters are sharded over the workers; all of them must call this.

    The first worker reads the files, one tensor at a time, and sends each on; the others only need `config.json` and
    the names of the tensors. transformers would read all files on every worker before it shards them.

    Args:
        base: which base; it is loaded in the run's precision.
        training: the run's configuration.

    Raises:
        InputError: it is no Llama, or a tensor is missing or has another shape.
    """
    import deepspeed
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.initialization import no_init_weights

    folder = base_folder(base)
    weights = Weights(folder)
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    if config.model_type != "llama":
        raise InputError(f"base.model {base.model!r}: is a '{config.model_type}' model, not a Llama")
    dtype = getattr(torch, training.precision)
    settings = deepspeed_config(training, accumulation_steps=1, trained=1)
    settings["train_batch_size"] = training.micro_batch_size * dist.get_world_size()
    # Its own argument for the precision is not heeded where a device has no float16; the settings are.
    with deepspeed.zero.Init(config_dict_or_path=settings), no_init_weights():
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False)
    decoder = model.get_decoder()
    decoder.rotary_emb = type(decoder.rotary_emb)(config)  # zero.Init rounds its frequencies to the run's precision
    model.tie_weights()
    parameters = dict(model.named_parameters())  # a tied one once
    for name in parameters:
        if name not in weights:  # on every worker, before one of them waits for another
            raise InputError(f"{folder}: tensor {name} is missing; is this a Llama?")
    for name, parameter in parameters.items():
        shape = tuple(parameter.ds_shape)
        with deepspeed.zero.GatheredParameters([parameter], modifier_rank=0), torch.no_grad():
            if dist.get_rank() == 0:
                parameter.copy_(weights.read(name, shape))
    return model.eval()
