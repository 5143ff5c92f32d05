"""The application: ingress, Llama, retriever and controller, wired from one configuration.

serve run serve_apps.app:app config=app_local.yaml      (Ray leaves a token in ~/.ray/auth_token)
serve deploy serve_apps/configs/local.yaml
"""

import os
from typing import Any

from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy, RequestRouterConfig

from llama_platform.artifacts.location import absolute
from serve_apps.config import AppConfig, LlamaReplicasConfig, ReplicasConfig, parse_app_args
from serve_apps.ingress.deployment import Ingress
from serve_apps.llama.deployment import LlamaDeployment
from serve_apps.routing.controller import AliasController

FAR_ABOVE = 100_000
"""Serve's own limits. Requests that it lets wait have no deadline and no tenant, and what it refuses is plain text, so
that it should never come to that: `api.middleware.admission` does both for the ingress, the engine for its replica."""

REMEMBERED_PAGES = 16_384
"""Pages of each replica's prefix cache that an ingress remembers: half a million tokens, in a few MB."""
REMEMBERED_ADAPTERS = 64
"""Adapters of each replica that an ingress remembers beside those that the replica reports."""


def app(args: dict[str, Any]) -> Application:
    """Return the application for Serve's arguments; see `serve_apps.config.parse_app_args`.

    Raises:
        ConfigError: a key is unknown or a value does not fit.
    """
    return build_app(parse_app_args(args))


def build_app(config: AppConfig) -> Application:
    """Return the application of a configuration."""
    config = config.model_copy(update={"store": absolute(config.store, os.environ)})
    values = config.model_dump(mode="json")
    grace_s = config.limits.request_timeout_s
    controller = serve.deployment(AliasController, name="aliases", **_options(config.controller, grace_s)).bind(values)
    options = {**_resources(config.llama, grace_s), "autoscaling_config": _token_scaling(config)}
    options["max_ongoing_requests"] = FAR_ABOVE
    if config.routing == "warm" or (config.routing == "auto" and config.llama.max_replicas > 1):
        options["request_router_config"] = RequestRouterConfig(
            request_router_class="serve_apps.llama.request_router:WarmRouter",
            request_router_kwargs={
                "running": config.engine.max_running,
                "pages": REMEMBERED_PAGES,
                "adapters": REMEMBERED_ADAPTERS,
            },
            request_routing_stats_period_s=config.scaling.interval_s,
        )
    llama = serve.deployment(LlamaDeployment, name="llama", **options).bind(values, controller)
    retriever = None
    if config.index is not None:
        from serve_apps.retriever.deployment import RetrieverDeployment  # needs the packages of the extra `rag`

        retriever = serve.deployment(RetrieverDeployment, name="retriever", **_options(config.retriever, grace_s)).bind(
            values, controller
        )
    routed = serve.ingress()(Ingress)
    options = {**_options(config.ingress, grace_s), "max_ongoing_requests": FAR_ABOVE, "max_queued_requests": FAR_ABOVE}
    ingress = serve.deployment(routed, name="ingress", **options)
    return ingress.bind(values, llama, retriever, controller)


def _options(replicas: ReplicasConfig, grace_s: float) -> dict[str, Any]:
    return {
        **_resources(replicas, grace_s),
        "autoscaling_config": AutoscalingConfig(
            min_replicas=replicas.min_replicas,
            max_replicas=max(replicas.max_replicas, replicas.min_replicas),
            target_ongoing_requests=replicas.target_ongoing_requests,
        ),
        "max_ongoing_requests": replicas.max_ongoing_requests,
    }


def _resources(replicas: LlamaReplicasConfig, grace_s: float) -> dict[str, Any]:
    return {
        "ray_actor_options": {"num_cpus": replicas.num_cpus, "num_gpus": replicas.num_gpus},
        "max_queued_requests": replicas.max_queued_requests,
        # A stream that has begun may end, whatever is deployed meanwhile; new replicas come before old ones go.
        "graceful_shutdown_timeout_s": grace_s,
        "max_surge_percent": 100,
    }


def _token_scaling(config: AppConfig) -> AutoscalingConfig:
    replicas, scaling = config.llama, config.scaling
    return AutoscalingConfig(
        min_replicas=replicas.min_replicas,
        max_replicas=max(replicas.max_replicas, replicas.min_replicas),
        metrics_interval_s=scaling.interval_s,
        look_back_period_s=scaling.look_back_s,
        upscale_delay_s=scaling.upscale_delay_s,
        downscale_delay_s=scaling.downscale_delay_s,
        downscale_to_zero_delay_s=scaling.downscale_to_zero_delay_s,
        policy=AutoscalingPolicy(
            policy_function="serve_apps.llama.autoscaling:TokenLoadPolicy",
            policy_kwargs={
                "tokens_per_replica": scaling.tokens_per_replica,
                "queue_depth": scaling.queue_depth,
                "response_s": scaling.response_s,
            },
        ),
    )
