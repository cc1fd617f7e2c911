#!/usr/bin/env bash
# Evaluate with several processes: tools/dist_test.sh CONFIG CHECKPOINT GPUS [arguments of test.py]
set -eu
[ $# -ge 3 ] || { echo "usage: $0 CONFIG CHECKPOINT GPUS [arguments of tools/test.py]" >&2; exit 2; }
CONFIG=$1 CHECKPOINT=$2 GPUS=$3
case $GPUS in
  auto | cpu | gpu | xpu) ;;
  '' | *[!0-9]*) echo "$0: GPUS is '$GPUS': expected a number of processes, such as 2" >&2; exit 2 ;;
esac
shift 3
exec torchrun --nnodes="${NNODES:-1}" --node-rank="${NODE_RANK:-0}" --nproc-per-node="$GPUS" \
  --master-addr="${MASTER_ADDR:-127.0.0.1}" --master-port="${PORT:-29500}" \
  "$(dirname "$0")/test.py" "$CONFIG" "$CHECKPOINT" --launcher pytorch "$@"
