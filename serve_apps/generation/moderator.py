"""AdapterModerator: an adapter that judges texts beside the rules."""

from dataclasses import replace

from llama_platform.artifacts.refs import BASE
from llama_platform.inference.protocol import SamplingParams
from llama_platform.models.prompt import Message, neutralize
from serve_apps.config import ModeratorConfig
from serve_apps.generation.completion import gather
from serve_apps.generation.safety import NO_SCREENS
from serve_apps.generation.service import GenerationService, RequestContext

VERDICT_TOKENS = 8
UNSAFE = "unsafe"


class AdapterModerator:
    """Asks an adapter on the application's own base (as Llama Guard is used: Inan et al., arXiv:2312.06674)."""

    def __init__(self, service: GenerationService, config: ModeratorConfig) -> None:
        """Ask through `service`, what `config` says."""
        self._service, self._config = service, config

    async def is_harmful(self, text: str, context: RequestContext) -> bool:
        """See Moderator; an answer that begins with `unsafe` says so.

        Raises:
            PlatformError: nobody can judge; what nobody has judged does not pass.
        """
        service = self._service
        # No allowance and no caller: what the platform asks is not the client's, which may not even see the adapter.
        own = replace(
            context,
            request_id=f"{context.request_id}-moderator",
            internal=True,
            screens=NO_SCREENS,
            allowance=None,
            caller=None,
        )
        name = None if self._config.adapter == BASE else self._config.adapter
        adapter = await service.resolve(name, own) if name is not None else None
        asked = self._config.prompt.replace("{text}", neutralize(text))
        prompt = service.template.encode_prompt([Message("user", asked)])
        sampling = SamplingParams(
            max_new_tokens=VERDICT_TOKENS, temperature=0, stop=("\n", *service.template.stop_strings())
        )
        prepared = await service.prepare([prompt], lambda room: sampling, own, adapter=adapter)
        (answer,) = await gather(service.stream(prepared, own), 1)
        return answer.text.strip().lower().startswith(UNSAFE)
