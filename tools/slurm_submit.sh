#!/usr/bin/env bash
# Queue a training on a Slurm cluster that survives its time limit: tools/slurm_submit.sh PARTITION JOB CONFIG [arguments]
# Slurm tells the job SIGNAL_SECONDS (120) before the limit; it saves, is requeued and goes on. It is also requeued, at
# most MAX_REQUEUES (10) times, after a process or node has failed. GPUS (8), GPUS_PER_NODE (8; 0 asks for none),
# CPUS_PER_TASK (5), SBATCH_ARGS and SRUN_ARGS come from the environment; SBATCH_ARGS=--array=0-4 trains with seeds 0 to 4.
# CONFIG may be @PLAN: a file as tools/benchmark.py run --slurm writes it, whose trainings are the tasks of an array.
set -eu
[ $# -ge 3 ] || { echo "usage: $0 PARTITION JOB CONFIG [arguments of tools/train.py]" >&2; exit 2; }

submit() {
  GPUS=${GPUS:-8} GPUS_PER_NODE=${GPUS_PER_NODE:-8}
  local gres=() tasks_per_node=$GPUS
  if [ "$GPUS_PER_NODE" -gt 0 ]; then
    gres=(--gres="gpu:$GPUS_PER_NODE")
    tasks_per_node=$((GPUS < GPUS_PER_NODE ? GPUS : GPUS_PER_NODE))
  fi
  # shellcheck disable=SC2086  # SBATCH_ARGS is a list of words
  TOOLS=$(cd "$(dirname "$0")" && pwd) exec sbatch --partition="$1" --job-name="$2" "${gres[@]}" --ntasks="$GPUS" \
    --ntasks-per-node="$tasks_per_node" --cpus-per-task="${CPUS_PER_TASK:-5}" --requeue --open-mode=append \
    --signal="B:USR1@${SIGNAL_SECONDS:-120}" ${SBATCH_ARGS:-} ${OUTPUT:+--output="$OUTPUT"} "$0" "$@"
}

# The arguments of this job's training go to ARGUMENTS, the command behind it to AFTER.
choose() {
  AFTER=()
  if [ "${2#@}" != "$2" ]; then # a plan
    local words code=0
    # shellcheck source=/dev/null
    . "${2#@}"
    # shellcheck disable=SC2154  # the plan has them, quoted
    eval "AFTER=(${ends[$SLURM_ARRAY_TASK_ID]})"
    exec 9>> "${logs[$SLURM_ARRAY_TASK_ID]}"
    flock --timeout 60 --conflict-exit-code 75 9 || code=$?
    if [ $code -eq 75 ]; then
      echo "${logs[$SLURM_ARRAY_TASK_ID]} is locked: another process trains this run"
      exit 0
    fi
    exec >&9 2>&1
    if [ $code -eq 0 ]; then
      # shellcheck disable=SC2154
      words=$(eval "${beginnings[$SLURM_ARRAY_TASK_ID]}") || code=$?
    fi
    if [ $code -ne 0 ] || [ -z "$words" ]; then # no lock or no plan, or it has ended meanwhile
      "${AFTER[@]}" --exit-code $code
      exit $code
    fi
    eval "ARGUMENTS=($words)"
    echo "\$ train.py $words"
  elif [ -n "${SLURM_ARRAY_TASK_ID:-}" ]; then
    ARGUMENTS=("$2" --work-dir "work_dirs/$1/seed$SLURM_ARRAY_TASK_ID" --seed "$SLURM_ARRAY_TASK_ID" --resume "${@:3}")
  else
    ARGUMENTS=("$2" --work-dir "work_dirs/$1" --resume "${@:3}")
  fi
}

train() {
  local job=${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID} code=0 limit=0
  choose "${@:2}"
  # shellcheck disable=SC2086  # SRUN_ARGS is a list of words
  srun --kill-on-bad-exit=1 ${SRUN_ARGS:-} python -u "$TOOLS/train.py" "${ARGUMENTS[@]}" --launcher slurm &
  local step=$!
  trap 'limit=1; kill -USR1 $step' USR1
  trap 'kill -TERM $step' TERM
  wait $step || code=$?
  while kill -0 $step 2> /dev/null; do # a signal ended the wait
    code=0
    wait $step || code=$?
  done
  if [ $code -eq 0 ]; then
    if [ ${#AFTER[@]} -gt 0 ]; then "${AFTER[@]}" --exit-code 0; fi
    exit 0
  fi
  # not after a mistake of the user (2), nor when the job was cancelled
  if { [ $limit -ne 0 ] || { [ $code -ne 2 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt "${MAX_REQUEUES:-10}" ]; }; } \
    && scontrol show job "$job" | grep -q JobState=RUNNING; then
    echo "requeued after exit code $code"
    exec scontrol requeue "$job"
  fi
  if [ ${#AFTER[@]} -gt 0 ]; then "${AFTER[@]}" --exit-code $code; fi
  exit $code
}

if [ -n "${SLURM_JOB_ID:-}" ] && [ -n "${TOOLS:-}" ]; then train "$@"; else submit "$@"; fi
