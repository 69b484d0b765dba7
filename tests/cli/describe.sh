#!/bin/bash
# Manual pages and completion scripts: of every option that --help lists, and as the shells take them.
# usage: describe.sh TOOL...
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
die() {
  echo "$1"
  exit 1
}

for tool in "$@"; do
  name=$(basename "$tool")
  if [[ -w /dev/full ]]; then
    for what in --help --version --man '--completion bash'; do
      got=0
      # shellcheck disable=SC2086
      "$tool" $what >/dev/full 2>"$work/err" || got=$?
      [[ $got == 1 ]] || die "$name $what: exit code $got where stdout is full, expected 1"
      grep -q 'cannot write to stdout' "$work/err" || die "$name $what: $(cat "$work/err")"
    done
  fi
  "$tool" --man >"$work/page.1"
  if command -v groff >/dev/null; then
    groff -man -Tutf8 -ww "$work/page.1" >/dev/null 2>"$work/err"
    [[ ! -s $work/err ]] || die "$name --man: $(cat "$work/err")"
  fi
  for shell in bash zsh fish; do
    "$tool" --completion $shell >"$work/$shell"
    if command -v $shell >/dev/null; then $shell -n "$work/$shell"; fi
  done
  # "name option" of the tool and its subcommands.
  commands=$("$tool" --help | sed -n '/^Subcommands:/,/^$/s/^  \([a-z]*\) .*/\1/p')
  for command in '' $commands; do
    for option in $("$tool" ${command:+"$command"} --help | grep -oE '^ +(-[a-z],)?--[a-z-]+' | grep -oE -- '--[a-z-]+'); do
      grep -qF -- "${option//-/\\-}" "$work/page.1" || die "$name --man lacks $command $option"
      for shell in bash zsh; do
        grep -qF -- "$option" "$work/$shell" || die "$shell's completion of $name lacks $command $option"
      done
      grep -qF -- "-l ${option#--}" "$work/fish" || die "fish's completion of $name lacks $option"
    done
  done
done

# completes WANT WORD...: what bash offers for the last word.
completes() {
  local want=$1
  shift
  COMP_WORDS=("$@")
  COMP_CWORD=$(($# - 1))
  COMPREPLY=()
  "_${1//-/_}"
  [[ "${COMPREPLY[*]}" == "$want" ]] || die "$*: bash completes '${COMPREPLY[*]}', expected '$want'"
}
for tool in "$@"; do
  # shellcheck source=/dev/null
  source <("$tool" --completion bash)
done
completes 'verify' mi-inspect ve
completes '--max-kl' mi-inspect verify c.yaml --max
completes 'recall' mi-inspect heads --sort re
completes '' mi-inspect show conf
completes 'bf16' mi-search --model m --precision b
completes '--dry-run' mi-search --dry

if "$1" --completion tcsh >/dev/null 2>"$work/err"; then die 'a shell that is not known is taken'; fi
grep -q tcsh "$work/err" || die "$(cat "$work/err")"
