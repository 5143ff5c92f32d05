from llama_platform.charts import new_chart, png, svg


def drawn():
    figure, axes = new_chart("Loss")
    axes.plot([1, 2, 3])
    return figure


def test_equal_figures_give_equal_texts_that_stand_in_a_page():
    text = svg(drawn())
    assert text.startswith("<svg")
    assert "Loss" in text or "glyph" in text
    assert text == svg(drawn())


def test_a_png_is_one():
    assert png(drawn()).startswith(b"\x89PNG")
