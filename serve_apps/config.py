"""Configuration of the application: replicas, resources and limits. Bounds of a request's fields are in its schema."""

import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from llama_platform.access.keys import TenantDefaults
from llama_platform.access.oidc import OidcConfig
from llama_platform.access.quotas import MEMORY, Quotas
from llama_platform.artifacts.location import StoreConfig
from llama_platform.config import Config, load_config
from llama_platform.inference.config import EngineConfig
from llama_platform.models.base_model import BaseConfig
from llama_platform.safety.chat import SafetyConfig
from rag.embedding_model import EmbeddingConfig
from rag.search.query import DENSE_WEIGHT

Positive = Annotated[int, Field(ge=1)]


class LlamaReplicasConfig(Config):
    """How many replicas a deployment has, and what Ray reserves for each.

    Those that generate have their limits in `engine` and are added by `scaling`.
    """

    min_replicas: Annotated[int, Field(ge=0)] = 1
    """Replicas that always run; with 0, the first request after a pause waits for a start."""
    max_replicas: Positive = 1
    """Replicas at the highest load."""
    max_queued_requests: Positive = 64
    """Requests of one ingress that may wait for a replica; more are refused with 503."""
    num_cpus: Annotated[float, Field(ge=0)] = 1.0
    """CPUs that Ray reserves for each replica."""
    num_gpus: Annotated[float, Field(ge=0)] = 0.0
    """GPUs that Ray reserves for each replica; a fraction shares one, several of one machine share the base."""
    threads: Positive | None = None
    """Threads of computation; None for the whole number of CPUs, at least 1."""

    def num_threads(self) -> int:
        """Return the threads that a replica computes with."""
        return self.threads or max(1, int(self.num_cpus))


class ReplicasConfig(LlamaReplicasConfig):
    """The same for replicas that take a number of requests at a time."""

    target_ongoing_requests: Positive = 2
    """Target of in-flight requests per replica; Serve adds a replica above it."""
    max_ongoing_requests: Positive = 32
    """Concurrent requests per replica; more wait."""


class ScalingConfig(Config):
    """When replicas of the Llama deployment are started and stopped, between `min_replicas` and `max_replicas`."""

    tokens_per_replica: Positive = 8192
    """Target of tokens in flight per replica, of prompts and answers together."""
    queue_depth: Annotated[float, Field(gt=0)] = 10
    """Waiting requests per replica above which one more is started."""
    response_s: Annotated[float, Field(gt=0)] = 10
    """While requests are queued, one more replica is started if they take or wait longer than this many seconds."""
    interval_s: Annotated[float, Field(gt=0)] = 2
    """How often replicas tell their load."""
    look_back_s: Annotated[float, Field(gt=0)] = 10
    """Averaging window of the load metrics, in seconds."""
    upscale_delay_s: Annotated[float, Field(ge=0)] = 10
    """How long demand must stay above capacity before a replica is added, in seconds."""
    downscale_delay_s: Annotated[float, Field(ge=0)] = 300
    """How long demand must stay below capacity before a replica is removed, in seconds."""
    downscale_to_zero_delay_s: Annotated[float, Field(ge=0)] = 900
    """How long demand must be nothing before the last replica is removed, where `min_replicas` is 0, in seconds."""


class LimitsConfig(Config):
    """What a request may ask for."""

    max_new_tokens: Positive = 1024
    """Bound on `max_new_tokens` of a request."""
    max_rag_prompt_tokens: Positive = 3000
    """Sources are fitted into a prompt of at most this many tokens."""
    max_answers: Positive = 8
    """Bound on the answers of one request: `n` times its prompts."""
    request_timeout_s: Annotated[float, Field(gt=0)] = 120
    """Deadline of a request, whatever headers the client sends."""
    max_body_bytes: Positive = 1024 * 1024
    """Larger requests are refused with 413."""
    max_upload_bytes: Positive = 32 * 1024 * 1024
    """Larger uploads of documents are refused with 413."""
    max_documents: Positive = 20
    """Bound on the `documents` of a `/rag` request."""
    max_document_chars: Positive = 100_000
    """Bound on the characters of the `documents` of a `/rag` request together."""
    max_embedding_inputs: Positive = 256
    """Bound on the texts of a `/v1/embeddings` request."""
    storage: Annotated[str, Field(pattern=r"^(memory://|rediss?://.+)$")] = "memory://"
    """Where the use of keys and tenants is counted: `memory://` for one ingress replica, `redis://host:port/0` where
    several count together."""
    on_failure: Literal["allow", "refuse"] = "allow"
    """Whether requests are let through uncounted or refused with 503 while Redis is away."""
    cached_weight: Annotated[float, Field(ge=0, le=1)] = 1
    """How much of a token a prompt's token counts that was found in the cache."""


class AuthConfig(Config):
    """Who may ask."""

    mode: Literal["none", "keys", "oidc", "keys+oidc"] = "none"
    """`none`: whoever reaches the port. `keys`: whoever has a key, `llama-platform keys create`. `oidc`: whoever has a
    token of the identity provider. `keys+oidc`: both."""
    oidc: OidcConfig = OidcConfig()
    """The identity provider."""
    allow_open: bool = False
    """Whether an application without keys may listen beyond the loopback address."""

    @model_validator(mode="after")
    def _names_its_provider(self) -> "AuthConfig":
        if "oidc" in self.mode and self.oidc.issuer is None:
            raise ValueError(f"mode {self.mode} needs oidc.issuer, the identity provider")
        return self


class TenantConfig(Config):
    """A tenant, and what its keys see and may use that say nothing of it themselves; `*` stands for any letters."""

    adapters: tuple[str, ...] = ()
    """Names of adapters."""
    indexes: tuple[str, ...] = ()
    """Names of indexes."""
    limits: Quotas = Quotas()
    """How much the tenant's keys may use together."""
    key_limits: Quotas = Quotas()
    """How much each of its keys may use that has no limits of its own."""
    weight: Annotated[float, Field(gt=0, le=1000)] = 1
    """How much of the engines it may have, compared with others, while there is not enough for all."""
    keep_conversations: bool = False
    """Whether its conversations are kept to be learned from, where `feedback.enabled`."""
    priority: Annotated[int, Field(ge=-100, le=100)] = 0
    """Requests of tenants with a larger one are begun first, whatever the weights."""


class PricesConfig(Config):
    """What tokens cost, in any currency, for the reports of use."""

    prompt: Annotated[float, Field(ge=0)] = 0
    """Price of 1,000 tokens of prompts."""
    cached: Annotated[float, Field(ge=0)] | None = None
    """Price of 1,000 tokens of prompts that were found in the cache; None for that of others."""
    completion: Annotated[float, Field(ge=0)] = 0
    """Price of 1,000 tokens of answers."""
    header: bool = False
    """Whether whole responses say what they cost, as `X-Request-Cost`; a stream begins before that is known."""


class ModeratorConfig(Config):
    """A model that judges texts, as Llama Guard does."""

    adapter: str | None = None
    """An adapter on the application's base, or `base`; None for no model."""
    places: tuple[Literal["input", "output"], ...] = ("input",)
    """What is judged. A stream whose answer is judged begins when it is whole."""
    prompt: str = (
        "Does the text below ask for or contain something harmful? Answer with one word, safe or unsafe.\n\n{text}"
    )
    """What the model is asked, with `{text}`; an answer that begins with `unsafe` blocks."""


class ServedSafetyConfig(SafetyConfig):
    """What must not be asked, found or answered over HTTP."""

    moderator: ModeratorConfig = ModeratorConfig()
    """A model that judges texts beside the rules."""


class AuditConfig(Config):
    """The audit trail: one record for each request and each act of administration."""

    enabled: bool = True
    """Whether there is one."""
    content: Literal["hashed", "full"] = "hashed"
    """Whether records hold prompts and answers themselves, as a replay needs, or their sha256."""
    folder: Path | None = None
    """Folder of a node's disk that records are written to before they are in the store; None for one beside the
    store's cache."""
    on_failure: Literal["allow", "refuse"] = "refuse"
    """Whether requests are refused with 503 or answered without a record while that folder cannot be written."""


class RagConfig(Config):
    """How questions to the documents are answered."""

    min_score: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Minimum score of a source, from 0 to 1. If none reaches it, the answer is `not_found`; the model is not asked."""
    min_coverage: Annotated[float, Field(ge=0, le=1)] = 0
    """Minimum share of the question's words that one source must hold, rare words counting most; below, the answer is
    `not_found`, too. It tells questions that only sound like the documents; with 0 nothing is asked of their words."""
    dense_weight: Annotated[float, Field(ge=0, le=1)] = DENSE_WEIGHT
    """Weight of meaning against words in the mode `hybrid`; `evaluate_retrieval --set tune=true` finds it for labelled
    questions."""
    not_found: str = "The answer is not in the documents."
    """The answer to a question that no source may answer."""
    standalone: Literal["history", "model"] = "history"
    """How a follow-up question becomes a search query: `history` puts the user's earlier turns before it; `model` has
    the model rewrite it, which costs one more generation and needs a capable model."""
    rerank: str | None = None
    """A cross-encoder that judges what was found: a hub name or a folder on every node."""
    extracts: bool = True
    """Whether sentences of the sources are the answer, marked as `degraded`, while no replica can generate one, or
    where what it generates is not grounded."""
    without_retriever: Literal["refuse", "answer"] = "refuse"
    """Whether a question is refused with 503 or answered without sources, marked as `degraded` with `retrieval:
    unavailable`, while no replica can search."""
    min_grounded: Annotated[float, Field(ge=0, le=1)] = 0
    """Share of an answer's words that must stand in sentences which a source supports; below, sentences of the sources
    are the answer. With a value above 0, a stream begins when the whole answer has been checked."""
    hold_sentences: bool = True
    """Whether a stream sends whole sentences, each held against the sources before, so that a citation never stands
    behind what its source does not say. Without it, words are sent as they come, and such citations stay; `claims`
    tells of them all the same."""


class FeedbackConfig(Config):
    """Conversations that adapters may learn from, and `POST /feedback` about them."""

    enabled: bool = False
    """Whether conversations are kept at all: those of tenants that agree (`tenants.*.keep_conversations`), and of
    requests that ask for it with the header `X-Keep-Conversation: true`; with `false` none is kept."""
    expire_days: Annotated[int, Field(ge=1)] = 90
    """Days that conversations are kept."""


class CorsConfig(Config):
    """Pages of other hosts that may ask from a browser."""

    origins: tuple[str, ...] = ()
    """Such as `https://chat.example.com`; none switches this off, `*` is for every page."""
    credentials: bool = False
    """Whether browsers send cookies along; never with `*`."""

    @model_validator(mode="after")
    def _not_everybody_with_credentials(self) -> "CorsConfig":
        if self.credentials and "*" in self.origins:
            raise ValueError("credentials: with '*' every page could ask in its visitor's name; name the origins")
        return self


class AppConfig(Config):
    """The whole application."""

    store: StoreConfig = StoreConfig()
    """Where artifacts are, and this node's cache of them."""
    base: BaseConfig = BaseConfig()
    """The base model and its prompts."""
    adapter: str | None = None
    """Answers requests that name none: `name`, `name@alias` or `name@3`. None for the base alone."""
    rag_adapter: str | None = None
    """Answers `/rag` requests that name none; None for the same as `adapter`. Fine-tuning on narrow chats can
    make a model ignore sources; `base` answers `/rag` without an adapter."""
    index: str | None = None
    """Searched by `/rag` requests that name none: a name, an alias or a version. None switches retrieval off."""
    embedding: EmbeddingConfig = EmbeddingConfig()
    """The model that embeds texts for the search."""
    rag: RagConfig = RagConfig()
    """How questions to the documents are answered."""
    alias_interval_s: Annotated[float, Field(gt=0)] = 1
    """How often aliases are read in the store."""
    stream_hold_ms: Annotated[float, Field(ge=0, le=50)] = 45
    """How long tokens after the first are held at most, to be sent together."""
    heartbeat_s: Annotated[float, Field(gt=0)] = 15
    """Seconds of silence after which a stream sends a comment, so that proxies keep the connection open."""
    admin_token_file: Path | None = None
    """Holds the token that `/admin` asks for; None switches these routes off."""
    auth: AuthConfig = AuthConfig()
    """Who may ask."""
    tenants: dict[str, TenantConfig] = Field(default_factory=dict)
    """What the keys of each tenant see and may use."""
    prices: PricesConfig = PricesConfig()
    """What tokens cost."""
    safety: ServedSafetyConfig = ServedSafetyConfig()
    """What must not be asked, found or answered."""
    audit: AuditConfig = AuditConfig()
    """The audit trail."""
    feedback: FeedbackConfig = FeedbackConfig()
    """Conversations that adapters may learn from."""
    cors: CorsConfig = CorsConfig()
    """Pages of other hosts that may ask from a browser."""
    log_prompts: bool = False
    """Whether the request log holds prompts themselves; without it, their sha256."""
    limits: LimitsConfig = LimitsConfig()
    """What a request may ask for."""
    engine: EngineConfig = EngineConfig()
    """Memory, batch and queue of each engine."""
    ingress: ReplicasConfig = ReplicasConfig(num_cpus=0.1, max_ongoing_requests=256, max_queued_requests=256)
    """Replicas that speak HTTP."""
    llama: LlamaReplicasConfig = LlamaReplicasConfig()
    """Replicas that generate, each with an engine."""
    routing: Literal["auto", "warm", "spread"] = "auto"
    """Which replica generates: with `warm`, one that holds the beginning of the prompt and the adapter, unless others
    have much less to do; with `spread`, the one of two that has less to do. `auto` is `warm` where there may be several
    replicas."""
    scaling: ScalingConfig = ScalingConfig()
    """When replicas that generate are started and stopped."""
    controller: ReplicasConfig = ReplicasConfig(num_cpus=0.05, max_ongoing_requests=4096, max_queued_requests=4096)
    """The one replica that follows aliases. Every other replica and every ingress keeps a call open to it."""
    retriever: ReplicasConfig = ReplicasConfig(num_cpus=0.2)
    """Replicas that search."""

    def tenant_defaults(self) -> dict[str, TenantDefaults]:
        """Return what each tenant gives its keys."""
        return {
            name: TenantDefaults(adapters=one.adapters, indexes=one.indexes, limits=one.key_limits)
            for name, one in self.tenants.items()
        }

    @model_validator(mode="after")
    def _count_together(self) -> "AppConfig":
        """Refuse limits that several ingress replicas would each count for themselves."""
        several = max(self.ingress.min_replicas, self.ingress.max_replicas) > 1
        if several and self.auth.mode != "none" and self.limits.storage == MEMORY:
            raise ValueError(
                "ingress: several replicas count the use of keys together in Redis only: set limits.storage to "
                "redis://…, or ingress.max_replicas to 1"
            )
        return self


def parse_app_args(args: dict[str, Any]) -> AppConfig:
    """Return the configuration of Serve's application arguments.

    On the command line these are texts, `config=FILE llama.num_cpus=2`; in a Serve YAML file `args:` holds keys and
    groups of keys. `config` is a file or the name of one in `serve_apps/configs`. Environment variables count as for
    jobs; what `args` say beside `config` wins.

    Raises:
        ConfigError: a key is unknown or a value does not fit.
    """
    values = dict(args)
    file = values.pop("config", None)
    return load_config(AppConfig, _config_file(str(file)) if file else None, _overrides(values), os.environ)


def _config_file(name: str) -> Path:
    shipped = Path(__file__).parent / "configs" / name
    return shipped if "/" not in name and shipped.is_file() else Path(name)


def _overrides(values: dict[str, Any], prefix: str = "") -> list[str]:
    lines = []
    for key, value in values.items():
        if isinstance(value, dict):
            lines += _overrides(value, f"{prefix}{key}.")
        else:
            lines.append(f"{prefix}{key}={value if isinstance(value, str) else json.dumps(value)}")
    return lines
