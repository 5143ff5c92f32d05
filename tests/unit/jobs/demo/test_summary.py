import io
import json

from rich.console import Console

from jobs.demo.summary import summarize


def test_the_summary_shows_answers_with_brackets_as_they_are():
    report = {
        "dataset": {"examples": 1, "train_tokens": 2, "held_out_answers_known": 0.97},
        "training": {"workers": 2, "zero_stage": 2, "steps": 1, "tokens_per_s": 1.0, "loss_first": 1, "loss_last": 1},
        "evaluation": {
            "perplexity_base": 2.0,
            "perplexity_adapter": 1.0,
            "samples": [{"prompt": "[/bold]", "base": "[red]", "adapter": "see [2]"}],
        },
        "adapter": {"name": "a", "version": 1},
        "predict": {"prompt": "q", "text": "[/]"},
        "rag": {"question": "q", "answer": "a [1]", "sources": [{"document": "d", "heading": ""}]},
        "seconds": {"total": 1.0},
    }
    console = Console(file=io.StringIO(), width=120)
    console.print(summarize(json.loads(json.dumps(report))))
    text = console.file.getvalue()
    for piece in ("97% of their answers", "[/bold]", "[red]", "see [2]", "[/]"):
        assert piece in text
