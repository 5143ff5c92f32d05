"""Base models: a Llama and its tokenizer, from the hub, a local folder, or the tiny one that comes along."""

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from llama_platform.config import Config
from llama_platform.errors import InputError
from llama_platform.models.hub import download
from llama_platform.models.prompt import PromptStyle, PromptTemplate
from llama_platform.models.stored_base import fetch_base, is_stored
from llama_platform.models.tiny import WEIGHTS_FOLDER

if TYPE_CHECKING:
    import torch

Precision = Literal["float32", "bfloat16", "float16"]


class BaseConfig(Config):
    """The base model that adapters are trained for and served with."""

    model: str = "meta-llama/Llama-2-7b-hf"
    """A hub name, a local folder, a folder in a store such as `s3://bucket/bases/llama-2-7b`, or `tiny` for the base
    that comes with the platform."""
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    """Digest that a base in a store must have, as `llama-platform bases digest FOLDER` prints it; None for whatever is
    there when a node first copies it."""
    revision: str | None = None
    """Commit of a hub model; None for its newest."""
    prompt_style: PromptStyle = "llama2"
    """`llama2` for `[INST] … [/INST]`, `plain` for `### Human:` / `### Assistant:`."""
    dtype: Precision = "bfloat16"
    """In which the weights are held."""
    quantize: Literal["none", "nf4"] = "none"
    """`nf4` holds the frozen weights in 4 bits for training (QLoRA, Dettmers et al., 2023); needs the extra
    `quantization`. On CPUs it is for trying: slower than 16 bits."""

    def location(self) -> str:
        """Return what transformers is to open; a base in a store is copied to this node first.

        Raises:
            InputError: the store holds no base there, or another one than `sha256` says.
            StorageError: the store cannot be read.
        """
        if is_stored(self.model):
            return str(fetch_base(self.model, self.sha256))
        return str(WEIGHTS_FOLDER) if self.model == "tiny" else self.model


def load_template(config: BaseConfig) -> PromptTemplate:
    """Return the prompt template of a base; only its tokenizer is loaded.

    Raises:
        InputError: the tokenizer cannot be found or read.
    """
    from transformers import AutoTokenizer, LlamaTokenizer

    # Of a SentencePiece model alone, AutoTokenizer forgets the space that Llama's texts begin with.
    kind = LlamaTokenizer if _has_sentencepiece_only(Path(config.location())) else AutoTokenizer
    with _explained(config):
        tokenizer = kind.from_pretrained(config.location(), revision=config.revision, trust_remote_code=False)
    if tokenizer.bos_token_id is None or tokenizer.eos_token_id is None:
        raise InputError(f"base.model {config.model!r}: its tokenizer has no BOS or EOS token")
    return PromptTemplate(tokenizer, config.prompt_style)


def _has_sentencepiece_only(folder: Path) -> bool:
    there = {
        name for name in ("tokenizer.model", "tokenizer.json", "tokenizer_config.json") if (folder / name).is_file()
    }
    return there == {"tokenizer.model"}


def base_folder(config: BaseConfig) -> Path:
    """Return the folder that holds a base; a hub model is downloaded, its safetensors, JSON files and tokenizer only.

    Raises:
        InputError: it cannot be found.
    """
    folder = Path(config.location())
    if folder.is_dir():
        return folder
    return download("base.model", config.model, ["*.safetensors", "*.json", "tokenizer.model"], config.revision)


def end_ids(folder: Path, tokenizer: Any) -> frozenset[int]:
    """Return the tokens that end an answer: the tokenizer's, and those of config.json and generation_config.json."""
    found = {tokenizer.eos_token_id}
    for name in ("config.json", "generation_config.json"):
        more = _json(folder / name).get("eos_token_id")
        found |= set(more) if isinstance(more, list) else {more}
    return frozenset(found - {None})


def max_positions(config: BaseConfig) -> int | None:
    """Return how many tokens the base reads at most, as its config.json says; None where that says nothing.

    Raises:
        InputError: the base cannot be found.
    """
    folder = Path(config.location())
    if not folder.is_dir():
        folder = download("base.model", config.model, ["config.json"], config.revision)
    found = _json(folder / "config.json").get("max_position_embeddings")
    return found if isinstance(found, int) else None


def _json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def load_base_model(config: BaseConfig, device: "torch.device | None" = None) -> Any:
    """Return the base as a `LlamaForCausalLM` in the configured dtype, on the CPU, from safetensors.

    Args:
        config: which base.
        device: where a base of four bits is loaded to; every other base is on the CPU.

    Raises:
        InputError: it cannot be found or read, or is no Llama.
    """
    import torch
    from transformers import AutoModelForCausalLM

    extra: dict[str, Any] = _quantized(config, device) if config.quantize != "none" else {}
    with _explained(config):
        model = AutoModelForCausalLM.from_pretrained(
            config.location(),
            revision=config.revision,
            dtype=getattr(torch, config.dtype),
            use_safetensors=True,
            trust_remote_code=False,
            **extra,
        )
    if model.config.model_type != "llama":
        raise InputError(f"base.model {config.model!r}: is a '{model.config.model_type}' model, not a Llama")
    return model


def check_quantization(config: BaseConfig) -> None:
    """Check that what `base.quantize` asks for is installed.

    Raises:
        InputError: it is not.
    """
    if config.quantize != "none" and importlib.util.find_spec("bitsandbytes") is None:
        raise InputError(
            "base.quantize needs bitsandbytes: install the extra, pip install 'llama-platform[quantization]'"
        )


def _quantized(config: BaseConfig, device: "torch.device | None") -> dict[str, Any]:
    import torch
    from transformers import BitsAndBytesConfig

    check_quantization(config)
    settings = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=config.quantize,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, config.dtype),
    )
    return {"quantization_config": settings, "device_map": {"": device or "cpu"}}


class _explained:
    """Turns transformers' errors about a missing model into one that says what to do."""

    def __init__(self, config: BaseConfig) -> None:
        self._config = config

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (OSError, ValueError)):
            what = "folder" if Path(self._config.location()).exists() else "hub name or folder"
            raise InputError(
                f"base.model {self._config.model!r}: cannot be loaded from this {what}: {str(error).splitlines()[0]}\n"
                "Check the name; for a gated model set HF_TOKEN; without network give a local folder, or 'tiny'"
            ) from error
