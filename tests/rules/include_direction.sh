#!/bin/bash
# kernels <- libruntime <- libsearch <- tools, and no third party's large headers in ours: an engine
# that links the runtime sees neither HDF5 nor a model loader. usage: ... ROOT
set -euo pipefail
cd "$1"
failed=0

# refuse FOLDER PATTERN WHY GLOB...: no file of the folder includes what matches.
refuse() {
  local folder=$1 pattern=$2 why=$3 found
  shift 3
  [[ -d $folder ]] || return 0
  local globs=()
  for glob in "$@"; do globs+=(--include="$glob"); done
  found=$(grep -rnE "${globs[@]}" "^[[:space:]]*#[[:space:]]*include[[:space:]]*[<\"]($pattern)" "$folder" || true)
  if [[ -n $found ]]; then
    echo "$why:"
    echo "${found//$'\n'/$'\n'  }" | sed '1s/^/  /'
    failed=1
  fi
}

all=('*.h' '*.cpp' '*.cuh' '*.cu')
refuse kernels 'libruntime/|libsearch/|tools/|tests/' 'kernels includes what lies above it' "${all[@]}"
refuse libruntime 'libsearch/|tools/|tests/' 'libruntime includes what lies above it' "${all[@]}"
refuse libsearch 'tools/|tests/' 'libsearch includes what lies above it' "${all[@]}"
refuse tools 'tests/' 'tools include tests' "${all[@]}"
for folder in kernels libruntime libsearch; do
  refuse "$folder" 'yaml-cpp/|hdf5|H5|CLI/|dnnl|oneapi/|cuda|cublas' \
    "a header of $folder includes another project's" '*.h'
done
# Files and models are no business of kernels and runtime, in any file.
refuse kernels 'yaml-cpp/|hdf5|H5|CLI/|dnnl|oneapi/|nlohmann/' 'kernels know files or models' "${all[@]}"
refuse libruntime 'hdf5|H5|CLI/|dnnl|oneapi/|nlohmann/' 'libruntime knows models or HDF5' "${all[@]}"
exit "$failed"
