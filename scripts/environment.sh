# Sourced by .venv/bin/activate: what `dagster` needs to find this project from any command line.
PIXEL_PROJECT="$(cd "$(dirname "${VIRTUAL_ENV:?}")" && pwd)"
export DAGSTER_HOME="$PIXEL_PROJECT"
export PIXEL_DAGSTER_STORAGE="${PIXEL_HOME:-$PIXEL_PROJECT/.pixel}/dagster"
mkdir -p "$PIXEL_DAGSTER_STORAGE"
# `dagster job execute` and `dagster asset …` read neither workspace.yaml nor pyproject.toml: the module's name has to be
# in their environment. Not as DAGSTER_MODULE_NAME: that reaches the webserver too, which then refuses its workspace file.
export DAGSTER_CLI_JOB_EXECUTE_MODULE_NAME="pixel_pipeline.definitions"
export DAGSTER_CLI_ASSET_LIST_MODULE_NAME="pixel_pipeline.definitions"
export DAGSTER_CLI_ASSET_MATERIALIZE_MODULE_NAME="pixel_pipeline.definitions"
# One readable line a message in the terminal, in place of Dagster's event stream; a `-c FILE` of your own replaces it.
export DAGSTER_CLI_JOB_EXECUTE_CONFIG="$PIXEL_PROJECT/scripts/console.yaml"
# Nothing calls home.
export DO_NOT_TRACK=1 HF_HUB_DISABLE_TELEMETRY=1 RAY_USAGE_STATS_ENABLED=0
# The literal commands are what this project documents; notes that they have newer names help nobody here.
for PIXEL_NOTE in job_execute_command dev_command; do
    export PYTHONWARNINGS="${PYTHONWARNINGS:+$PYTHONWARNINGS,}ignore:Function \`$PIXEL_NOTE\` is superseded"
done
unset PIXEL_PROJECT PIXEL_NOTE
