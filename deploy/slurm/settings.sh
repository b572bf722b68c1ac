# shellcheck shell=bash
# What every job of a run shares; sourced, never run. Set the first three to your cluster's.
: "${POPCAT_ENV:=$HOME/popcat/.venv}"       # where popcat is installed, seen by all nodes
: "${POPCAT_RUNS:=$HOME/popcat-runs}"       # a folder for each run goes here: private, seen by all nodes
: "${POPCAT_SCRATCH:=${TMPDIR:-/var/tmp}}"  # local disk of a node
: "${POPCAT_WAIT:=900}"                     # seconds that a job waits for the scheduler, which has started before it
# Scheduler file, certificates and logs of one run; submit.sh names a new one unless it is set.
: "${POPCAT_RUN:=$POPCAT_RUNS/$(date +%Y%m%d-%H%M%S)-$$}"
export POPCAT_ENV POPCAT_RUN POPCAT_SCRATCH POPCAT_WAIT

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

# The scheduler may start after the workers; a job that waits for one in vain ends.
wait_for_scheduler() {
  local end=$((SECONDS + POPCAT_WAIT))
  until [[ -s $SCHEDULER_FILE ]]; do
    if ((SECONDS >= end)); then
      echo "no scheduler wrote $SCHEDULER_FILE in $POPCAT_WAIT s: look at the log of popcat-scheduler" >&2
      return 1
    fi
    sleep "${POPCAT_POLL:-5}"
  done
}

# Run a command and wait for its end; the signals that end a job end it too, so that what follows is still done.
run_to_the_end() {
  local child status=0
  "$@" &
  child=$!
  # shellcheck disable=SC2064 # the child of now
  trap "kill -TERM $child 2>/dev/null || true" TERM INT
  wait "$child" || status=$?
  if kill -0 "$child" 2>/dev/null; then # a signal came: the child has it too
    status=0
    wait "$child" || status=$?
  fi
  trap - TERM INT
  return "$status"
}

# Whether the job $1 is over: SLURM has answered, and knows it as neither waiting nor running.
is_over() {
  local said
  if said=$(squeue --noheader --jobs "$1" 2>&1); then
    [[ -z $said ]]
  else
    [[ $said == *"Invalid job id"* ]]
  fi
}
