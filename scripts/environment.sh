# Sourced by .venv/bin/activate: what `dagster` needs to find this project from any command line.
# `dagster job execute` reads neither workspace.yaml nor pyproject.toml; the module name has to be in the environment.
PIXEL_PROJECT="$(cd "$(dirname "${VIRTUAL_ENV:?}")" && pwd)"
export DAGSTER_HOME="$PIXEL_PROJECT"
export DAGSTER_MODULE_NAME="pixel_pipeline.definitions"
export PIXEL_DAGSTER_STORAGE="${PIXEL_HOME:-$PIXEL_PROJECT/.pixel}/dagster"
mkdir -p "$PIXEL_DAGSTER_STORAGE"
# Nothing calls home.
export DO_NOT_TRACK=1 HF_HUB_DISABLE_TELEMETRY=1 RAY_USAGE_STATS_ENABLED=0
# The literal `dagster job execute` is what this project documents; its deprecation notice helps nobody here.
export PYTHONWARNINGS="${PYTHONWARNINGS:+$PYTHONWARNINGS,}ignore:Function \`job_execute_command\`"
unset PIXEL_PROJECT
