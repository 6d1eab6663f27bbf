"""The code location: what `dagster` and `dg` load."""

from pathlib import Path
import warnings

import dagster as dg

from pixel_pipeline.defs.code_links import link_to_code

# Beta and preview notices address developers of Dagster projects, not the people who run this one.
warnings.filterwarnings("ignore", category=dg.BetaWarning)
warnings.filterwarnings("ignore", category=dg.PreviewWarning)


@dg.definitions
def defs() -> dg.Definitions:
    """All definitions below `pixel_pipeline/defs`, each asset with a link to its code."""
    return link_to_code(dg.load_from_defs_folder(path_within_project=Path(__file__).parent))
