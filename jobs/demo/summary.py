"""Demo summary: `.demo/report.json` as a table."""

from typing import Any

from rich.markup import escape
from rich.table import Table


def summarize(report: dict[str, Any]) -> Table:
    """Return the report as a table to read."""
    table = Table(title="The demo in short", show_header=False, title_justify="left")

    def add(name: str, text: str) -> None:
        table.add_row(name, escape(text))  # answers may hold brackets, which are markup to the table

    data, training, evaluation = report["dataset"], report["training"], report["evaluation"]
    add("dataset", f"{data['examples']} chats, {data['train_tokens']:,} training tokens")
    add(
        "training",
        f"{training['workers']} workers, ZeRO {training['zero_stage']}, {training['steps']} steps, "
        f"{training['tokens_per_s']:,.0f} tokens/s, loss {training['loss_first']:.2f} → {training['loss_last']:.2f}",
    )
    known = data["held_out_answers_known"]
    add(
        "perplexity",
        f"base {evaluation['perplexity_base']:,.1f}, adapter {evaluation['perplexity_adapter']:,.2f} on held-out chats"
        + (
            f"\n  {known:.0%} of their answers stand word for word in training: this is how well they are remembered"
            if known
            else "\n  none of their answers stands word for word in training; the facts do, in other words"
        ),
    )
    for sample in evaluation["samples"]:
        add("", f"{sample['prompt']}\n  base: {sample['base']}\n  adapter: {sample['adapter']}")
    add("adapter", f"{report['adapter']['name']}@{report['adapter']['version']}")
    add("/predict", f"{report['predict']['prompt']}\n  {report['predict']['text']}")
    best = report["rag"]["sources"][0]
    place = f"{best['document']}, {best['heading']}" if best["heading"] else best["document"]
    add("/rag", f"{report['rag']['question']}\n  {report['rag']['answer']}\n  first source: {place}")
    add("seconds", ", ".join(f"{stage} {s:.0f}" for stage, s in report["seconds"].items()))
    return table
