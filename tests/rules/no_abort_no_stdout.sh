#!/bin/bash
# Libraries never print, abort or exit: nm over our static archives. usage: ... NM ARCHIVE...
# Allowed are what the standard library and the language pull in: std::terminate, __cxa_*, and
# __assert_fail of debug builds.
set -euo pipefail
nm=$1
shift

banned='abort|exit|_exit|_Exit|quick_exit|at_quick_exit'
banned+='|printf|vprintf|puts|putchar|putc|fputs|fputc|fprintf|vfprintf|perror'
banned+='|__printf_chk|__vprintf_chk|__fprintf_chk|__vfprintf_chk|stdout|stderr'
banned+='|std::cout|std::cerr|std::clog|std::wcout|std::wcerr'

failed=0
for archive in "$@"; do
  [[ -s $archive ]] || { echo "no archive: $archive"; exit 1; }
  found=$("$nm" -C -A --undefined-only "$archive" | grep -E " U ($banned)(@.*)?$" || true)
  if [[ -n $found ]]; then
    echo "$(basename "$archive") prints, aborts or exits:"
    echo "$found" | sed -E 's/^[^:]*:/  /' | sort -u
    failed=1
  fi
done
exit "$failed"
