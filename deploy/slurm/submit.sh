#!/usr/bin/env bash
# A run on SLURM: scheduler, CPU workers (or, with GPU=1, GPU workers), client; given again, it finishes a broken run.
#   submit.sh CATALOG --posterior MODEL -o FOLDER [options of `popcat infer`]
#   GPU=1 SBATCH_ACCOUNT=mine SBATCH_PARTITION=long submit.sh ...
# Each run has a folder of its own under POPCAT_RUNS, or the one that POPCAT_RUN names.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export POPCAT_DEPLOY=${here%/slurm}
# shellcheck source=deploy/slurm/settings.sh
source "$here/settings.sh"
umask 077
mkdir -p "$POPCAT_RUN"
if [[ -s $POPCAT_RUN/client ]] && command -v squeue >/dev/null && ! is_over "$(<"$POPCAT_RUN/client")"; then
  echo "$POPCAT_RUN is the folder of a run that is not over (job $(<"$POPCAT_RUN/client")): leave POPCAT_RUN unset" >&2
  exit 2
fi
"$POPCAT_DEPLOY/tls.sh" "$POPCAT_TLS"
"$POPCAT_DEPLOY/config.sh" "$POPCAT_TLS" >"$DASK_CONFIG"
rm -f "$SCHEDULER_FILE" "$POPCAT_RUN/jobs" "$POPCAT_RUN/client"

# % begins a pattern in the name of a log.
submit() { sbatch --parsable --export=ALL --output="${POPCAT_RUN//%/%%}/%x-%j.log" "$@"; }

# Jobs that have no client would wait for one.
submitted=()
trap '((${#submitted[@]} == 0)) || scancel "${submitted[@]}"' EXIT

workers=cpu-workers.sbatch
[[ ${GPU:-0} == 1 ]] && workers=gpu-workers.sbatch
scheduler=$(submit "$here/scheduler.sbatch")
submitted+=("$scheduler")
after=(--dependency="after:$scheduler" --kill-on-invalid-dep=yes)
array=$(submit "${after[@]}" "$here/$workers")
submitted+=("$array")
echo "$scheduler $array" >"$POPCAT_RUN/jobs"
client=$(submit "${after[@]}" "$here/infer.sbatch" "$@")
echo "$client" >"$POPCAT_RUN/client"
submitted=()
echo "scheduler $scheduler, workers $array, client $client; logs in $POPCAT_RUN"
