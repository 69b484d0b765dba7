# shellcheck shell=bash
# Sourced by the scripts here, which set `tool`, the command that `expect` runs: an empty folder to
# work in, gone at the end, and what a run must give.
set -euo pipefail
: "${tool:?}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

# expect CODE ARGS...: runs the tool, keeps stdout and stderr.
expect() {
  local want=$1 got=0
  shift
  "${tool[@]}" "$@" >out 2>err || got=$?
  if [[ $got != "$want" ]]; then
    echo "${tool[*]} $*: exit code $got, expected $want"
    cat out err
    exit 1
  fi
}
# has FILE TEXT
has() {
  if ! grep -qF -- "$2" "$1"; then
    echo "$1 lacks: $2"
    head -c 3000 "$1"
    exit 1
  fi
}
is_empty() {
  if [[ -s $1 ]]; then
    echo "$1 is not empty:"
    cat "$1"
    exit 1
  fi
}
