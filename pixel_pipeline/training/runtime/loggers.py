"""Experiment loggers by name. Imports torch."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from lightning.pytorch.loggers import Logger

from pixel_pipeline.training.errors import TrainingConfigError

PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow"}


def open_loggers(names: Sequence[str], *, run: str, folder: Path) -> list[Logger]:
    """Open the loggers of a run. Files are stored under `<folder>/<run>/`, so a resumed run continues its curves.

    W&B and MLflow read server and key from their own environment variables (`WANDB_API_KEY`, `MLFLOW_TRACKING_URI`).

    Raises:
        TrainingConfigError: the package of a logger is not installed.
    """
    opened: list[Logger] = []
    for name in names:
        if find_spec(PACKAGES[name]) is None:
            raise TrainingConfigError(
                f"The logger {name} needs the package {PACKAGES[name]}, which is not installed.",
                hint=f"Run `pip install 'pixel-pipeline[{name}]'`, or remove {name} from PIXEL_LOGGERS.",
            )
        if name == "tensorboard":
            from lightning.pytorch.loggers import TensorBoardLogger

            opened.append(TensorBoardLogger(folder, name=run, version="", default_hp_metric=False))
        elif name == "wandb":
            from lightning.pytorch.loggers import WandbLogger

            opened.append(WandbLogger(project="pixel-pipeline", name=run, id=run, save_dir=folder))
        else:
            from lightning.pytorch.loggers import MLFlowLogger

            opened.append(MLFlowLogger(experiment_name="pixel-pipeline", run_name=run))
    return opened
