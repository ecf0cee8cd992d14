"""Rate limits of an account, shared by all lanes with the same credentials."""

from collections.abc import Iterable

from headwater.connectors.contract.policy import RateLimit


class AccountRates:
    """The rate limits of one account. Equal limits of its sinks are counted together."""

    def rates(self, limits: Iterable[RateLimit]) -> "Rates":
        """Return the limits of one sink."""
        raise NotImplementedError


class Rates:
    """The limits of one sink, which apply together."""
