"""The platform's exceptions: what is wrong, where, and what to do.

Entry points map them to exit codes, `serve_apps.api.errors` to HTTP statuses; nothing else does.
"""


class PlatformError(Exception):
    """Base of every error that the platform raises on purpose. Its text is fit for the user."""

    exit_code = 1
    code = "internal"


class InputError(PlatformError):
    """Something the user gave is malformed: a file, a field, a document, a request."""

    exit_code = 2
    code = "invalid_input"


class ContextLengthError(InputError):
    """A prompt, or a prompt with its answer, is longer than the model's context."""


class BlockedError(PlatformError):
    """A text holds what a rule of the organisation does not allow."""

    exit_code = 2
    code = "content_blocked"


class ConfigError(InputError):
    """A configuration file, environment variable or `--set` override is wrong."""

    code = "invalid_config"


class StorageError(PlatformError):
    """The store could not do what was asked; the text names the URI and the missing permission."""

    exit_code = 2
    code = "storage"


class NotFoundError(PlatformError):
    """The named object, artifact, version or alias does not exist."""

    exit_code = 2
    code = "not_found"


class ConflictError(PlatformError):
    """Somebody else changed the same thing first; read again and repeat."""

    exit_code = 2
    code = "conflict"


class KeyReusedError(PlatformError):
    """A request's Idempotency-Key came with another body before."""

    exit_code = 2
    code = "idempotency_key_reused"


class IntegrityError(PlatformError):
    """Content does not match its digest, or an artifact breaks the rules; it is never loaded."""

    exit_code = 2
    code = "integrity"


class TrainingError(PlatformError):
    """A training run could not be completed."""

    code = "training"


class DivergedError(TrainingError):
    """The loss is infinite or not a number; the same steps would end there again."""


class GateError(PlatformError):
    """An adapter did not pass the conditions that were set for it."""

    code = "gate"


class StoppedError(PlatformError):
    """A run was stopped on request before its end, and can be continued."""

    exit_code = 75  # EX_TEMPFAIL: try again
    code = "stopped"


class EngineError(PlatformError):
    """The engine could not answer a request."""

    code = "engine"


class NotFiniteError(EngineError):
    """The model's logits are infinite or not a number, as with an adapter whose values are too large."""


class UnavailableError(PlatformError):
    """Nothing can answer right now; try again in a moment."""

    code = "unavailable"


class OverloadedError(UnavailableError):
    """Too many requests wait already; try again in a moment."""

    code = "overloaded"


class LimitError(PlatformError):
    """Whoever asks has used up what its key or tenant may use; it is given back with time."""

    code = "limit_exceeded"

    def __init__(self, quota: str, limit: int, of: str, resets_in_s: int) -> None:
        """Say what is used up.

        Args:
            quota: name of the quota.
            limit: how much it allows.
            of: whose it is, `key` or `tenant`.
            resets_in_s: seconds until it is given back.
        """
        super().__init__(
            f"the {of}'s limit of {limit} {quota.replace('_', ' ')} is used up; ask again in {resets_in_s} s"
        )
        self.quota, self.limit, self.of, self.resets_in_s = quota, limit, of, resets_in_s

    def __reduce__(self) -> tuple[type["LimitError"], tuple[str, int, str, int]]:
        """Let it be pickled, as errors are on their way from one process to another."""
        return type(self), (self.quota, self.limit, self.of, self.resets_in_s)


class ReplicaLostError(PlatformError):
    """The replica that answered has died; ask again."""

    code = "replica_lost"


class ForbiddenError(PlatformError):
    """Whoever asks is not known, or must not do this."""

    exit_code = 2
    code = "forbidden"


class UnauthorizedError(PlatformError):
    """Whoever asks has given no token, or a wrong one."""

    exit_code = 2
    code = "unauthorized"


class BodyError(PlatformError):
    """The body of a request cannot be read."""

    code = "client_gone"


class BodyTooLargeError(BodyError):
    """The body of a request is over the limit."""

    code = "body_too_large"


class BodyTooSlowError(BodyError):
    """The body of a request did not arrive in time."""

    code = "body_too_slow"


class MediaTypeError(BodyError):
    """The body of a request is of another kind than the route takes."""

    code = "not_json"


class DeadlineError(PlatformError):
    """The time for a request has passed; its work was stopped."""

    code = "deadline"
