# Sourced by .venv/bin/activate: the variables that `dagster` needs to find this project.
PIXEL_PROJECT="$(cd "$(dirname "${VIRTUAL_ENV:?}")" && pwd)"
export DAGSTER_HOME="$PIXEL_PROJECT"
export PIXEL_DAGSTER_STORAGE="${PIXEL_HOME:-$PIXEL_PROJECT/.pixel}/dagster"
mkdir -p "$PIXEL_DAGSTER_STORAGE"
# `dagster job execute` and `dagster asset …` read neither workspace.yaml nor pyproject.toml, so they need the module name in the
# environment. DAGSTER_MODULE_NAME would also reach the webserver, which then refuses its workspace file.
export DAGSTER_CLI_JOB_EXECUTE_MODULE_NAME="pixel_pipeline.definitions"
export DAGSTER_CLI_ASSET_LIST_MODULE_NAME="pixel_pipeline.definitions"
export DAGSTER_CLI_ASSET_MATERIALIZE_MODULE_NAME="pixel_pipeline.definitions"
# Prints one readable line per message instead of Dagster's event stream; your own `-c FILE` replaces it.
export DAGSTER_CLI_JOB_EXECUTE_CONFIG="$PIXEL_PROJECT/scripts/console.yaml"
# Disable telemetry.
export DO_NOT_TRACK=1 HF_HUB_DISABLE_TELEMETRY=1 RAY_USAGE_STATS_ENABLED=0
# Hide Dagster's notices that the documented commands have newer names.
for PIXEL_NOTE in job_execute_command dev_command; do
    export PYTHONWARNINGS="${PYTHONWARNINGS:+$PYTHONWARNINGS,}ignore:Function \`$PIXEL_NOTE\` is superseded"
done
unset PIXEL_PROJECT PIXEL_NOTE
