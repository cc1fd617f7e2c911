#!/usr/bin/env bash
# Train on a Slurm cluster: tools/slurm_train.sh PARTITION JOB CONFIG [arguments of train.py]
# GPUS (8), GPUS_PER_NODE (8), CPUS_PER_TASK (5) and SRUN_ARGS come from the environment; GPUS_PER_NODE=0 asks for none.
set -eu
[ $# -ge 3 ] || { echo "usage: $0 PARTITION JOB CONFIG [arguments of tools/train.py]" >&2; exit 2; }
PARTITION=$1 JOB=$2 CONFIG=$3
shift 3
GPUS=${GPUS:-8} GPUS_PER_NODE=${GPUS_PER_NODE:-8}
GRES=()
TASKS_PER_NODE=$GPUS
if [ "$GPUS_PER_NODE" -gt 0 ]; then
  GRES=(--gres="gpu:$GPUS_PER_NODE")
  TASKS_PER_NODE=$((GPUS < GPUS_PER_NODE ? GPUS : GPUS_PER_NODE))
fi
# shellcheck disable=SC2086  # SRUN_ARGS is a list of words
exec srun --partition="$PARTITION" --job-name="$JOB" "${GRES[@]}" --ntasks="$GPUS" \
  --ntasks-per-node="$TASKS_PER_NODE" --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
  python -u "$(dirname "$0")/train.py" "$CONFIG" --launcher slurm "$@"
