import io
import zipfile

import pytest

from llama_platform.errors import InputError
from rag.documents.archives import check_unpacked


def test_what_unpacks_to_too_much_is_refused_before_it_is_unpacked():
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", b"0" * 100_000)
    assert len(packed.getvalue()) < 1000
    check_unpacked(packed.getvalue(), 100_000, "DOCX")
    with pytest.raises(InputError, match="unpacks to 100000 bytes, over the limit of 99999"):
        check_unpacked(packed.getvalue(), 99_999, "DOCX")
    with pytest.raises(InputError, match="not a readable EPUB"):
        check_unpacked(b"no zip", 10, "EPUB")
