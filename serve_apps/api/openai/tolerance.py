"""Tolerance: fields of other servers and clients that are accepted where they ask for nothing that is not done here.

Anything else that is not known is refused with its name: what a field asks for is never passed over in silence.
"""

from collections.abc import Mapping
from typing import Any

ANYTHING = object()
"""Stands for any value: the field asks nothing of the answer."""

OPENAI: Mapping[str, tuple[Any, ...]] = {
    "audio": (),
    "best_of": (1,),
    "function_call": ("none",),
    "functions": ([],),
    "metadata": (ANYTHING,),
    "modalities": (["text"],),
    "parallel_tool_calls": (ANYTHING,),
    "prediction": (),
    "prompt_cache_key": (ANYTHING,),
    "prompt_cache_retention": (ANYTHING,),
    "reasoning_effort": (ANYTHING,),
    "safety_identifier": (ANYTHING,),
    "service_tier": (ANYTHING,),
    "store": (ANYTHING,),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "verbosity": (ANYTHING,),
    "web_search_options": (),
}
VLLM: Mapping[str, tuple[Any, ...]] = {
    "add_generation_prompt": (True,),
    "add_special_tokens": (False, True),
    "allowed_token_ids": ([],),
    "bad_words": ([],),
    "cache_salt": (ANYTHING,),
    "chat_template": ("",),
    "chat_template_kwargs": ({},),
    "continue_final_message": (False,),
    "documents": ([],),
    "guided_grammar": ("",),
    "include_stop_str_in_output": (False,),
    "kv_transfer_params": ({},),
    "length_penalty": (1, 1.0),
    "logits_processors": ([],),
    "mm_processor_kwargs": ({},),
    "priority": (0,),
    "prompt_logprobs": (),
    "request_id": (ANYTHING,),
    "return_token_ids": (False,),
    "return_tokens_as_token_ids": (False,),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True,),
    "stop_token_ids": ([],),
    "truncate_prompt_tokens": (),
    "use_beam_search": (False,),
}
OTHERS: Mapping[str, tuple[Any, ...]] = {
    "extra_body": ({},),
    "format": ("",),
    "include_reasoning": (False,),
    "keep_alive": (ANYTHING,),
    "models": ([],),
    "options": ({},),
    "plugins": ([],),
    "provider": (ANYTHING,),
    "reasoning": (),
    "route": ("",),
    "think": (False,),
    "top_a": (0, 0.0),
    "transforms": ([],),
    "usage": (ANYTHING,),
}
"""Ollama's and OpenRouter's."""
REQUEST: Mapping[str, tuple[Any, ...]] = {**OPENAI, **VLLM, **OTHERS}
MESSAGE: Mapping[str, tuple[Any, ...]] = {
    "annotations": (ANYTHING,),
    "audio": (),
    "cache_control": (ANYTHING,),
    "function_call": ({},),
    "id": (ANYTHING,),
    "images": ([],),
    "name": (ANYTHING,),
    "prefix": (False,),
    "reasoning": ("",),
    "reasoning_content": ("",),
    "refusal": ("",),
    "weight": (ANYTHING,),
}
PART: Mapping[str, tuple[Any, ...]] = {"annotations": ([],), "cache_control": (ANYTHING,)}


def drop_harmless(values: Any, tolerated: Mapping[str, tuple[Any, ...]]) -> Any:
    """Return the fields of a request without those that ask for nothing.

    Args:
        values: a JSON value; other things than objects are returned as they are.
        tolerated: by field, the values besides null that ask for nothing.

    Raises:
        ValueError: a tolerated field asks for something.
    """
    if not isinstance(values, dict):
        return values
    kept = {}
    for name, value in values.items():
        if name not in tolerated:
            kept[name] = value
        elif value is not None and not any(one is ANYTHING or _same(one, value) for one in tolerated[name]):
            raise ValueError(f"'{name}' is not supported; leave it out")
    return kept


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and one == other
