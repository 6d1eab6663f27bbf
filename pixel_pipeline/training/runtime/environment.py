"""The environment of a training process: no banners, and threads that sleep while they wait. Torch-free."""

import logging
import os
import warnings

VARIABLES = {
    # By default OpenMP's threads spin at each barrier. Another busy process then makes a step five times slower (measured on two
    # cores: 5 s instead of 1.1 s). Sleeping threads cost nothing on an idle machine.
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
    """Call this before torch, lightning and transformers are imported. The user's own variables are kept."""
    for name, value in VARIABLES.items():
        os.environ.setdefault(name, value)
    for pattern in UNHELPFUL_WARNINGS:
        warnings.filterwarnings("ignore", message=pattern)


def silence_libraries() -> None:
    """Call this after transformers and lightning are imported: they set up their loggers on import."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
