"""Mails: subject, day and text of a message as it was sent (RFC 5322)."""

from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import parsedate_to_datetime

from llama_platform.errors import InputError
from rag.documents.blocks import TextBuilder, plain_blocks
from rag.documents.document import Facts, make_facts
from rag.documents.html import read_html


def read_mail(content: bytes, notes: list[str]) -> tuple[TextBuilder, Facts]:
    """Return the text of a mail under its subject, and what it says of itself.

    Args:
        content: the message with its headers.
        notes: gets what was not understood, and which attachments were left out.

    Raises:
        InputError: it is no mail, or has no text.
    """
    mail = message_from_bytes(content, policy=policy.default)
    assert isinstance(mail, EmailMessage)
    body = mail.get_body(("plain", "html"))
    if not mail.keys() or body is None:
        raise InputError("not a mail: it has no headers, or no text")
    try:
        written = body.get_content()
        day = parsedate_to_datetime(str(mail["date"])).date() if mail["date"] else None
    except (LookupError, ValueError, TypeError) as error:
        raise InputError(f"not a readable mail: {error}") from error
    builder = TextBuilder()
    builder.add(str(mail["subject"] or ""), "heading", 1)
    builder.add("\n".join(f"{name}: {mail[name]}" for name in ("From", "To", "Cc") if mail[name]))
    if body.get_content_subtype() == "html":
        page, _ = read_html(written, notes)
        text, blocks = page.text, page.blocks
    else:
        text = written.replace("\r\n", "\n")
        blocks = plain_blocks(text)
    for block in blocks:
        builder.add(text[block.start : block.end], block.kind, block.level + (block.kind == "heading"))
    names = [part.get_filename() or part.get_content_type() for part in mail.iter_attachments()]
    if names:
        notes.append(f"attachments are left out: {', '.join(names[:10])}")
    return builder, make_facts(str(mail["subject"] or "") or None, None, day, notes)
