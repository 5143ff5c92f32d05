"""Safety: the rules of the application, by tenant."""

from dataclasses import dataclass
from functools import partial

from llama_platform.safety.chat import SafetyConfig, TurnPolicy
from llama_platform.safety.rules import RuleSet, ScreenRule


@dataclass(frozen=True, slots=True)
class Screens:
    """What texts of one tenant's requests are screened by."""

    input: tuple[ScreenRule, ...] = ()
    sources: tuple[ScreenRule, ...] = ()
    output: tuple[ScreenRule, ...] = ()
    turns: TurnPolicy = "allow"
    """What happens with text that imitates the frame of a turn."""

    @property
    def changes_output(self) -> bool:
        """Return whether a rule may change answers, and not only note something of them."""
        return any(rule.action != "flag" for rule in self.output)


NO_SCREENS = Screens()


class Safety:
    """Knows the screens of each tenant."""

    def __init__(self, config: SafetyConfig) -> None:
        """Read the file of rules.

        Raises:
            ConfigError: it cannot be read, or a rule cannot be kept.
        """
        self._rules, self._turns = RuleSet.read(config.rules), config.turns
        self._known: dict[str, Screens] = {}

    def screens(self, tenant: str) -> Screens:
        """Return the screens of a tenant; the empty text is the tenant of requests without a key."""
        if tenant not in self._known:
            of = partial(self._rules.of, tenant)
            self._known[tenant] = Screens(of("input"), of("sources"), of("output"), self._turns)
        return self._known[tenant]
