#!/usr/bin/env bash
# Runs the parts of `make test` in order and prints how long each took, also when one fails.
set -uo pipefail
cd "$(dirname "$0")/.."
times=() failed=""

part() { # a name, then the command
  local name=$1 start=$SECONDS
  shift
  [ -z "$failed" ] || return 0
  printf '\n== %s\n' "$name"
  "$@" || failed=$name
  times+=("$(printf '%-12s %5d s  %s' "$name" $((SECONDS - start)) "$([ "$failed" = "$name" ] && echo FAILED || echo passed)")")
}

for name in "$@"; do part "$name" make --no-print-directory "$name"; done
printf '\n== how long each part took\n'
printf '%s\n' "${times[@]}"
[ -z "$failed" ] || { printf '\n%s failed\n' "$failed"; exit 1; }
