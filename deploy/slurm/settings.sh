# shellcheck shell=bash
# What every job of a run shares; sourced, never run. Set the first three to your cluster's.
: "${POPCAT_ENV:=$HOME/popcat/.venv}"       # where popcat is installed, seen by all nodes
: "${POPCAT_RUN:=$HOME/popcat-run}"         # scheduler file, certificates, logs: private, seen by all nodes
: "${POPCAT_SCRATCH:=${TMPDIR:-/var/tmp}}"  # local disk of a node

export POPCAT_TLS=$POPCAT_RUN/tls
export DASK_CONFIG=$POPCAT_RUN/dask.yaml
export DASK_TEMPORARY_DIRECTORY=$POPCAT_SCRATCH
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 NUMBA_NUM_THREADS=1
export PATH=$POPCAT_ENV/bin:$PATH
SCHEDULER_FILE=$POPCAT_RUN/scheduler.json

# Kilobytes of memory that one of $1 workers of this job may have.
memory_per_worker() {
  local megabytes=${SLURM_MEM_PER_NODE:-$((${SLURM_MEM_PER_CPU:-2048} * ${SLURM_CPUS_PER_TASK:-1}))}
  echo "$((megabytes * 1024 * 95 / 100 / $1))KiB"
}

# The scheduler may start after the workers.
wait_for_scheduler() {
  until [[ -s $SCHEDULER_FILE ]]; do sleep 5; done
}
