"""Silences banners and advice of the training libraries, so that the terminal shows our lines only. Torch-free."""

import logging
import os
import warnings

ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


def silence_libraries() -> None:
    """Call before torch, lightning and transformers are imported. Errors still come through."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for logger in ("lightning", "lightning.pytorch", "lightning.fabric", "pytorch_lightning"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    for pattern in (
        r".*does not have many workers.*",
        r".*`ModelCheckpoint` callback.*",
        r".*GPU available but not used.*",
        r".*LeafSpec.*is deprecated.*",
        r".*isinstance\(treespec, LeafSpec\).*",
    ):
        warnings.filterwarnings("ignore", message=pattern)


def silence_transformers() -> None:
    """Call after transformers is imported: its progress bars obey no environment variable."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
