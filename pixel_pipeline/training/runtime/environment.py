"""The process environment of training: no banners, and threads that sleep while they wait. Torch-free."""

import logging
import os
import warnings

VARIABLES = {
    # By default OpenMP's threads spin at each barrier. One other busy process on the machine then makes a step five times
    # as slow (measured on two cores: 5 s in place of 1.1 s); sleeping threads lose nothing when the machine is idle.
    "OMP_WAIT_POLICY": "PASSIVE",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
UNHELPFUL_WARNINGS = (
    r".*does not have many workers.*",
    r".*GPU available but not used.*",
    r".*LeafSpec.*is deprecated.*",
    r".*isinstance\(treespec, LeafSpec\).*",
)


def prepare_environment() -> None:
    """Call before torch, lightning and transformers are imported. What the user has set stays."""
    for name, value in VARIABLES.items():
        os.environ.setdefault(name, value)
    for pattern in UNHELPFUL_WARNINGS:
        warnings.filterwarnings("ignore", message=pattern)


def silence_libraries() -> None:
    """Call after transformers (and lightning, if at all) is imported: they set their loggers up on import."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
