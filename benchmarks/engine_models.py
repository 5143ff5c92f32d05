"""Models of the engine's benchmarks, with random weights, built on the spot: two Llamas, adapters, and GGUF files."""

import json
from pathlib import Path
from typing import Any

SHAPES: dict[str, dict[str, Any]] = {
    "134m": {
        "hidden_size": 768,
        "intermediate_size": 2048,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "num_key_value_heads": 12,
        "vocab_size": 32_000,
        "tie_word_embeddings": False,
    },
    "360m": {
        "hidden_size": 960,
        "intermediate_size": 2560,
        "num_hidden_layers": 32,
        "num_attention_heads": 15,
        "num_key_value_heads": 5,
        "vocab_size": 49_152,
        "tie_word_embeddings": True,
    },
}
ADAPTERS, RANK = 8, 16


def build_model(name: str, cache: Path) -> Path:
    """Return the folder of a model, built at first use: bfloat16 weights and a tokenizer of whole words."""
    folder = cache / f"engine-{name}"
    if (folder / "adapter7/adapter_config.json").exists():
        return folder
    import torch
    from peft import LoraConfig, get_peft_model
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    config = LlamaConfig(max_position_embeddings=2048, **SHAPES[name])
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(folder)
    words = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"w{n}": n for n in range(3, config.vocab_size)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Whitespace(), decoders.Fuse()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    ).save_pretrained(folder)
    for number in range(ADAPTERS):
        lora = LoraConfig(
            r=RANK, lora_alpha=16, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM"
        )
        adapted = get_peft_model(LlamaForCausalLM(config).to(torch.bfloat16), lora)
        for key, parameter in adapted.named_parameters():
            if "lora_B" in key:
                parameter.data *= 0.1  # random matrices of full size would drown the base
        adapted.save_pretrained(folder / f"adapter{number}")
    return folder


def build_slow_talker(cache: Path) -> Path:
    """Return the folder of a model of 134m's shape that reads and writes text, built at first use.

    Its engine is what a server with it is busy with: the tiny base is answered from faster than HTTP is spoken.
    """
    folder = cache / "talker-134m"
    if (folder / "tokenizer.json").exists():
        return folder
    from llama_platform.models.base_model import BaseConfig
    from llama_platform.models.random_base import write_random_base

    tiny = json.loads((Path(BaseConfig(model="tiny").location()) / "config.json").read_text())
    shape = {**SHAPES["134m"], "vocab_size": tiny["vocab_size"], "max_position_embeddings": 2048}
    return write_random_base(shape, folder)


def active_parameters(name: str) -> int:
    """Return the parameters that a decoding step reads: all but the embedding table, which the head stands for."""
    shape = SHAPES[name]
    head_dim = shape["hidden_size"] // shape["num_attention_heads"]
    queries, keys = shape["hidden_size"], shape["num_key_value_heads"] * head_dim
    layer = shape["hidden_size"] * (2 * queries + 2 * keys + 3 * shape["intermediate_size"])
    return shape["num_hidden_layers"] * layer + shape["vocab_size"] * shape["hidden_size"]


def adapter_parameters(name: str) -> int:
    """Return the parameters of one adapter on all seven projections."""
    shape = SHAPES[name]
    hidden, inner = shape["hidden_size"], shape["intermediate_size"]
    keys = shape["num_key_value_heads"] * (hidden // shape["num_attention_heads"])
    sizes = [(hidden, hidden), (hidden, keys), (hidden, keys), (hidden, hidden)] + 3 * [(hidden, inner)]
    return shape["num_hidden_layers"] * RANK * sum(a + b for a, b in sizes)


def write_gguf(folder: Path) -> Path:
    """Return the model as a bfloat16 GGUF file for llama.cpp, written at first use."""
    path = folder / "model.gguf"
    if path.exists():
        return path
    import gguf
    import torch
    from safetensors.torch import load_file
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder)
    writer = gguf.GGUFWriter(str(path.with_suffix(".part")), "llama")
    head_dim = config.hidden_size // config.num_attention_heads
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    words = ["<unk>", "<s>", "</s>"] + [f"w{n}" for n in range(3, config.vocab_size)]
    kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(words)
    writer.add_token_scores([0.0] * len(words))
    writer.add_token_types(kinds + [gguf.TokenType.NORMAL] * (len(words) - 3))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for key, tensor in load_file(folder / "model.safetensors").items():
        for projection, count in heads.items():
            if projection in key:  # llama.cpp rotates neighbours where transformers rotates halves
                tensor = tensor.view(count, 2, head_dim // 2, -1).transpose(1, 2).reshape(tensor.shape)
        name = names.get_name(key, try_suffixes=(".weight",))
        if tensor.dim() == 1:
            writer.add_tensor(name, tensor.float().numpy())
        else:
            raw = tensor.contiguous().view(torch.uint8).numpy()
            writer.add_tensor(name, raw, raw_dtype=gguf.GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.with_suffix(".part").rename(path)
