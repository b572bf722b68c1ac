#!/usr/bin/env bash
# A run on SLURM: scheduler, CPU workers (or, with GPU=1, GPU workers), client; given again, it finishes a broken run.
#   submit.sh CATALOG --posterior MODEL -o FOLDER [options of `popcat infer`]
#   GPU=1 SBATCH_ACCOUNT=mine SBATCH_PARTITION=long submit.sh ...
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export POPCAT_DEPLOY=${here%/slurm}
# shellcheck source=deploy/slurm/settings.sh
source "$here/settings.sh"
umask 077
mkdir -p "$POPCAT_RUN"
"$POPCAT_DEPLOY/tls.sh" "$POPCAT_TLS"
sed "s|/etc/popcat-tls|$POPCAT_TLS|" "$POPCAT_DEPLOY/dask.yaml" >"$DASK_CONFIG"
rm -f "$SCHEDULER_FILE"

submit() { sbatch --parsable --export=ALL --output="$POPCAT_RUN/%x-%j.log" "$@"; }

workers=cpu-workers.sbatch
[[ ${GPU:-0} == 1 ]] && workers=gpu-workers.sbatch
scheduler=$(submit "$here/scheduler.sbatch")
array=$(submit --dependency="after:$scheduler" "$here/$workers")
echo "$scheduler $array" >"$POPCAT_RUN/jobs"
client=$(submit --dependency="after:$scheduler" "$here/infer.sbatch" "$@")
echo "scheduler $scheduler, workers $array, client $client; logs in $POPCAT_RUN"
