#!/usr/bin/env bash
# Runs the parts of `make test` in order and prints how long each took, also when one fails.
# Of parts `a+b,c` the others run meanwhile, in order, with the processor time that the first leaves;
# what they say comes when all have ended.
set -uo pipefail
cd "$(dirname "$0")/.."
times=() failed=""

note() { # a part, its seconds, its exit code
  [ "$3" -eq 0 ] || failed="$failed $1"
  times+=("$(printf '%-14s %5d s  %s' "$1" "$2" "$([ "$3" -eq 0 ] && echo passed || echo FAILED)")")
}

part() { # a part
  local start=$SECONDS
  printf '\n== %s\n' "$1"
  make --no-print-directory "$1"
  note "$1" $((SECONDS - start)) $?
}

meanwhile() { # a part, and others for the background, with commas
  local log start pid code
  log=$(mktemp)
  start=$(date +%s)
  # shellcheck disable=SC2086 - several goals
  nice -n 19 make --no-print-directory ${2//,/ } > "$log" 2>&1 &
  pid=$!
  trap 'kill "$pid"; wait "$pid"; rm "$log"; exit 130' INT TERM
  part "$1"
  wait "$pid"
  code=$?
  trap - INT TERM
  printf '\n== %s\n' "$2"
  cat "$log"
  note "$2" $(($(stat -c %Y "$log") - start)) $code
  rm "$log"
}

for name in "$@"; do
  [ -z "$failed" ] || break
  case $name in
    *+*) meanwhile "${name%+*}" "${name#*+}" ;;
    *) part "$name" ;;
  esac
done
printf '\n== how long each part took\n'
printf '%s\n' "${times[@]}"
[ -z "$failed" ] || { printf '\n%s failed\n' "${failed# }"; exit 1; }
