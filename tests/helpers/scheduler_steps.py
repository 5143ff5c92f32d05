"""A scheduler that is stepped without a model."""

from llama_platform.inference.torch_engine.kv_cache import PagePool
from llama_platform.inference.torch_engine.scheduler import Scheduler


def make(pages=20, max_running=4, prefix_cache=True):
    pool = PagePool(pages, prefix_cache)
    return pool, Scheduler(pool, max_running)


def step(scheduler, prompt_tokens=1000, token=1):
    chunks = scheduler.schedule(prompt_tokens)
    scheduler.update(chunks)
    for chunk in chunks:
        if chunk.samples:
            chunk.sequence.tokens.append(token)
            if chunk.sequence.generated >= chunk.sequence.max_new_tokens:
                scheduler.remove(chunk.sequence)
    return chunks
