"""The application: ingress, Llama deployment and retriever deployment, wired from one configuration.

serve run serve_apps.app:app config=app_local.yaml
serve deploy serve_apps/configs/local.yaml
"""

import os
from typing import Any

from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig

from llama_platform.artifacts.location import absolute
from serve_apps.config import AppConfig, ReplicasConfig, parse_app_args
from serve_apps.ingress import Ingress, make_api
from serve_apps.llama_deployment import LlamaDeployment
from serve_apps.retriever_deployment import RetrieverDeployment


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
    llama = serve.deployment(LlamaDeployment, name="llama", **_options(config.llama, grace_s)).bind(values)
    retriever = None
    if config.index is not None:
        options = _options(config.retriever, grace_s)
        retriever = serve.deployment(RetrieverDeployment, name="retriever", **options).bind(values)
    routed = serve.ingress(make_api(config.limits.max_body_bytes))(Ingress)
    ingress = serve.deployment(routed, name="ingress", **_options(config.ingress, grace_s))
    return ingress.bind(values, llama, retriever)


def _options(replicas: ReplicasConfig, grace_s: float) -> dict[str, Any]:
    return {
        "ray_actor_options": {"num_cpus": replicas.num_cpus, "num_gpus": replicas.num_gpus},
        "autoscaling_config": AutoscalingConfig(
            min_replicas=replicas.min_replicas,
            max_replicas=max(replicas.max_replicas, replicas.min_replicas),
            target_ongoing_requests=replicas.target_ongoing_requests,
        ),
        "max_ongoing_requests": replicas.max_ongoing_requests,
        "max_queued_requests": replicas.max_queued_requests,
        # A stream that has begun may end, whatever is deployed meanwhile.
        "graceful_shutdown_timeout_s": grace_s,
    }
