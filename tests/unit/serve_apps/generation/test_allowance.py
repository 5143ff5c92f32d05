import asyncio

from llama_platform.access.keys import Caller
from llama_platform.access.meter import Meter
from llama_platform.access.quotas import Quotas
from llama_platform.inference.protocol import Usage
from serve_apps.generation.allowance import Allowance


def caller(**limits):
    return Caller(key="k1", tenant="acme", scopes=("generate",), adapters=(), indexes=(), limits=Quotas(**limits))


def test_tokens_that_were_cached_weigh_less():
    async def go():
        meter, who = Meter(), caller(tokens_per_minute=1000)
        one = Allowance(meter, who, Quotas(tokens_per_minute=900), cached_weight=0.25)
        await one.admit()
        await one.reserve(600)
        one.use(Usage(100, 20, 80))
        one.use(Usage(10, 5))
        await one.close()
        other = Allowance(meter, who, Quotas(tokens_per_minute=900))
        await other.admit()
        await other.reserve(1)
        return other.standings()

    (standing,) = asyncio.run(go())
    # 20 + 80 / 4 + 20, and 15; of key and tenant, the one with less left
    assert (standing.limit, standing.left) == (900, 900 - 75 - 1)
