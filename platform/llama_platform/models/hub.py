"""The model hub: where models that are no local folder come from."""

from pathlib import Path

from llama_platform.errors import InputError


def download(setting: str, model: str, patterns: list[str], revision: str | None = None) -> Path:
    """Return the folder of a hub model; what an earlier call has downloaded is not fetched again.

    Args:
        setting: the setting that names the model, for the error: `base.model`.
        model: name on the hub, `owner/name`.
        patterns: file names to fetch, such as `*.safetensors`.
        revision: commit or branch; None for the newest.

    Raises:
        InputError: there is no such model, it may not be read, or the hub cannot be reached.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=patterns))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise InputError(
            f"{setting} {model!r}: neither a folder here nor found on the hub: {str(error).splitlines()[0]}\n"
            "Check the name; for a gated model set HF_TOKEN; without network give a local folder"
        ) from error
