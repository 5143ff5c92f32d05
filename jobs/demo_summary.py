"""Demo summary: `.demo/report.json` as a table."""

from typing import Any

from rich.table import Table


def summarize(report: dict[str, Any]) -> Table:
    """Return the report as a table to read."""
    table = Table(title="The demo in short", show_header=False, title_justify="left")
    data, training, evaluation = report["dataset"], report["training"], report["evaluation"]
    table.add_row("dataset", f"{data['examples']} chats, {data['train_tokens']:,} training tokens")
    table.add_row(
        "training",
        f"{training['workers']} workers, ZeRO {training['zero_stage']}, {training['steps']} steps, "
        f"{training['tokens_per_s']:,.0f} tokens/s, loss {training['loss_first']:.2f} → {training['loss_last']:.2f}",
    )
    table.add_row(
        "perplexity", f"base {evaluation['perplexity_base']:,.1f}, adapter {evaluation['perplexity_adapter']:,.2f}"
    )
    for sample in evaluation["samples"]:
        table.add_row("", f"{sample['prompt']}\n  base: {sample['base']}\n  adapter: {sample['adapter']}")
    table.add_row("adapter", f"{report['adapter']['name']}@{report['adapter']['version']}")
    table.add_row("/predict", f"{report['predict']['prompt']}\n  {report['predict']['text']}")
    best = report["rag"]["sources"][0]
    place = f"{best['document']}, {best['heading']}" if best["heading"] else best["document"]
    table.add_row("/rag", f"{report['rag']['question']}\n  {report['rag']['answer']}\n  first source: {place}")
    table.add_row("seconds", ", ".join(f"{stage} {s:.0f}" for stage, s in report["seconds"].items()))
    return table
