"""PDF files, drawn by reportlab."""

import io

from reportlab.pdfgen import canvas


def pdf(pages, **info):
    """Return a PDF with one line of text on each page."""
    buffer = io.BytesIO()
    page = canvas.Canvas(buffer)
    for key, value in info.items():
        getattr(page, f"set{key}")(value)
    for text in pages:
        page.drawString(72, 720, text)
        page.showPage()
    page.save()
    return buffer.getvalue()


def drawn(draw):
    """Return a PDF whose pages a function draws."""
    buffer = io.BytesIO()
    page = canvas.Canvas(buffer)
    draw(page)
    page.save()
    return buffer.getvalue()
