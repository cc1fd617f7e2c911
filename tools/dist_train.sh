#!/usr/bin/env bash
# Train on several GPUs, or with several processes on the CPU: tools/dist_train.sh CONFIG GPUS [arguments of train.py]
# On several machines set NNODES, NODE_RANK, MASTER_ADDR and PORT.
set -eu
[ $# -ge 2 ] || { echo "usage: $0 CONFIG GPUS [arguments of tools/train.py]" >&2; exit 2; }
CONFIG=$1 GPUS=$2
case $GPUS in
  auto | cpu | gpu | xpu) ;;
  '' | *[!0-9]*) echo "$0: GPUS is '$GPUS': expected a number of processes, such as 2" >&2; exit 2 ;;
esac
shift 2
exec torchrun --nnodes="${NNODES:-1}" --node-rank="${NODE_RANK:-0}" --nproc-per-node="$GPUS" \
  --master-addr="${MASTER_ADDR:-127.0.0.1}" --master-port="${PORT:-29500}" --max-restarts="${MAX_RESTARTS:-0}" \
  "$(dirname "$0")/train.py" "$CONFIG" --launcher pytorch "$@"
