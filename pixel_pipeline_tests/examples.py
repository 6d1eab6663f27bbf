"""How long property tests search: a few fixed examples in `make test`, many random ones in `make test-deep`."""

from hypothesis import HealthCheck, settings

USUAL = 25
DEEP_FACTOR = 20
# Examples share the fixtures of their test; each one uses keys and folders of its own.
_COMMON = settings(
    deadline=None,
    suppress_health_check=[check for check in HealthCheck if check is not HealthCheck.filter_too_much],
)


def register_profiles() -> None:
    """`default` draws the same examples in every run; `deep` (`--hypothesis-profile=deep`) searches at random."""
    settings.register_profile(
        "default", _COMMON, max_examples=USUAL, derandomize=True, database=None, print_blob=False
    )
    settings.register_profile("deep", _COMMON, max_examples=USUAL * DEEP_FACTOR)
    settings.load_profile("default")


def examples(count: int) -> settings:
    """`@examples(100)`: settings of a test that is cheaper, or more expensive, than the usual; also scales the deep search."""
    return settings(max_examples=count * settings.default.max_examples // USUAL)
