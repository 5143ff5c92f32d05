"""Archives: files that are zip archives within, and what they would unpack to."""

import io
import zipfile

from llama_platform.errors import InputError


def check_unpacked(content: bytes, max_bytes: int, kind: str) -> None:
    """Refuse what would unpack to more than allowed; zipfile never unpacks more than a file declares.

    Args:
        content: the file.
        max_bytes: the most that it may unpack to.
        kind: what it should be, for errors.

    Raises:
        InputError: it would, or is no archive.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            unpacked = sum(info.file_size for info in archive.infolist())
    except (zipfile.BadZipFile, ValueError, OverflowError) as error:
        raise InputError(f"not a readable {kind}: {error}") from error
    if unpacked > max_bytes:
        raise InputError(f"unpacks to {unpacked} bytes, over the limit of {max_bytes}")
