from email.message import EmailMessage

import pytest

from llama_platform.errors import InputError


@pytest.fixture
def mail():
    made = EmailMessage()
    made["Subject"], made["From"], made["To"] = "Grüner Tee", "Ann <ann@example.com>", "bob@example.com"
    made["Date"] = "Fri, 27 Nov 2026 10:00:00 +0100"
    made.set_content("Eighty degrees.\n\nThree minutes — größer wäre falsch.\n")
    return made


def test_a_mail_is_its_text_under_its_subject(read, mail):
    mail.add_attachment(b"x", maintype="application", subtype="pdf", filename="menu.pdf")
    found = read("a.eml", mail.as_bytes())
    assert (found.facts.title, found.facts.date) == ("Grüner Tee", "2026-11-27")
    assert [found.text[b.start : b.end] for b in found.blocks] == [
        "Grüner Tee",
        "From: Ann <ann@example.com>\nTo: bob@example.com",
        "Eighty degrees.",
        "Three minutes — größer wäre falsch.",
    ]
    assert found.notes == ("attachments are left out: menu.pdf",)


def test_a_mail_of_html_alone_is_read_as_a_page(read):
    made = EmailMessage()
    made["Subject"] = "Tea"
    made.set_content("<h1>Green</h1><p>Eighty <b>degrees</b>.</p><script>x()</script>", subtype="html")
    found = read("a.eml", made.as_bytes())
    assert [(found.text[b.start : b.end], b.kind, b.level) for b in found.blocks] == [
        ("Tea", "heading", 1), ("Green", "heading", 2), ("Eighty degrees.", "text", 0),
    ]  # fmt: skip


@pytest.mark.parametrize("content", ["no mail", "Subject: x\nContent-Type: image/png\n\nabc"])
def test_what_is_no_mail_says_so(read, content):
    with pytest.raises(InputError, match="not a mail"):
        read("a.eml", content)
