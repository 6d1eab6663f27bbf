"""`python -m pixel_pipeline.training.runtime.device_report`: the GPUs as one JSON line, for processes that must not import torch."""

import json


def main() -> None:
    """Print `{"torch": version, "gpus": [{"name", "capability": [major, minor], "memory_bytes"}]}`."""
    import torch

    from pixel_pipeline.training.runtime.device import visible_gpus

    gpus = [
        {
            "name": gpu.name,
            "capability": gpu.capability,
            "memory_bytes": torch.cuda.get_device_properties(index).total_memory,
        }
        for index, gpu in enumerate(visible_gpus())
    ]
    print(json.dumps({"torch": str(torch.__version__), "gpus": gpus}))  # noqa: T201


if __name__ == "__main__":
    main()
