"""Datasets for tests: sources opened, prepared and published in one call."""

from llama_platform.data.prepare import prepare
from llama_platform.data.publish import publish_dataset
from llama_platform.data.reading.sources import open_sources


def prepare_sources(config, template, folder, examiner=None):
    with open_sources(config.sources, config.exclude) as files:
        return prepare(config, template, folder, files, examiner)


def publish_sources(repository, data, base):
    with open_sources(data.sources, data.exclude) as files:
        return publish_dataset(repository, data, base, files)


def chat(*texts, **last):
    turns = [{"role": ("user", "assistant")[n % 2], "content": t} for n, t in enumerate(texts)]
    turns[-1] |= last
    return {"messages": turns}


GOOD = [chat(f"question {n} of {n * n}", f"answer {n * 3} to {n}") for n in range(40)]
