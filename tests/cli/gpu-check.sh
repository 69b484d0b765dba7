#!/bin/bash
# tools/gpu-check without a GPU: what it says where there is none, and its report over programs that
# stand in for the tests and the benchmark. usage: gpu-check.sh SCRIPT
set -euo pipefail
tool=(python3 -B "$1")
# shellcheck source=tests/cli/expect.sh
source "$(dirname "$0")/expect.sh"

expect 0 --help
has out 'gpu-check.json and'
expect 2 --rounds 0
expect 2 --nothing
if ! ldconfig -p | grep -q 'libcuda\.so\.1'; then
  expect 1
  has err 'gpu-check: no NVIDIA driver: libcuda.so.1 is not installed'
  is_empty out
fi

mkdir -p build/tests/cuda build/tools
cat >build/tests/cuda/mi_cuda_device_tests <<'END'
#!/bin/bash
case $1 in
  --list-test-names-only) printf 'one, of two\nskipped\n' ;;
  'one\, of two') exit "${FAULT:-0}" ;;
  skipped) echo 'SKIPPED: too little memory'; exit 77 ;;
  '~[long]') ;;
  *) exit 3 ;;
esac
END
cat >build/tools/mi-bench <<'END'
#!/usr/bin/env python3
import json, sys
assert sys.argv[1:] == ["cuda", "--json", "--rounds", "3", "--lengths", "16384,131072", "--head-dim",
                        "64,128"], sys.argv
rows = []
for tokens in (16384, 131072):
    for name, ms in (("cuBLAS GEMM", 1.5), ("dense", 2), ("runs of 64", 0.3), ("single keys", 0.5),
                     ("stripe estimate", 0.05), ("index build", 0.1), ("stripe plan", 0.8)):
        row = {"name": name, "head_dim": 128, "tokens": tokens, "ms": ms}
        if name != "index build":
            row.update(tflops=600 / ms, of_gemm=0.5)
        if name in ("dense", "runs of 64", "single keys", "stripe plan"):
            row.update(executed=0.15, speedup=2 / ms, per_flop=0.3 / ms)
        if name in ("dense", "runs of 64", "single keys", "index build", "stripe plan"):
            row.update(error=2e-3)
        rows.append(row)
json.dump({"device": {}, "rows": rows}, sys.stdout)
END
chmod +x build/tests/cuda/mi_cuda_device_tests build/tools/mi-bench

cat >check.py <<'END'
import importlib.machinery
import importlib.util
import sys

loader = importlib.machinery.SourceFileLoader("gpu_check", sys.argv.pop(1))
gpu_check = importlib.util.module_from_spec(importlib.util.spec_from_loader("gpu_check", loader))
loader.exec_module(gpu_check)
try:
    gpu_check.find_device("libabsent.so.1")
except gpu_check.Missing as missing:
    assert str(missing) == "no NVIDIA driver: libabsent.so.1 is not installed", missing
gpu_check.find_device = lambda: {"name": "Some H100", "compute_capability": "9.0", "cuda_driver": "13.0",
                                 "bus": "0", "devices": 1}
sys.exit(gpu_check.main())
END
tool=(python3 -B check.py "$1")
expect 0 --build build --output report --rounds 3
has out 'Some H100, compute capability 9.0'
has out 'one, of two'
has out 'SKIPPED: too little memory'
has out 'All that was run passed.'
has out 'met     dense, mma.sync kernel, 16K: TFLOP/s, at least 300: 300, 100 % of the goal'
has out 'missed  single keys, 16K: rate per executed FLOP, of dense, at least 0.8: 0.6, 75 % of the goal'
has out 'met     stripe plan at 15 %, 16K: speed-up over the fastest dense, at least 1: 2.5, 250 % of the goal'
grep -qE '^  index build +128   16384     0\.100 +2\.0e-03$' out
has out 'dense, wgmma kernel, 16K: TFLOP/s, at least 500: not measured'
cmp out report/summary.txt
python3 - <<'END'
import json
report = json.load(open("report/gpu-check.json"))
assert [case["result"] for case in report["tests"]] == ["passed", "skipped"], report
assert len(report["bench"]["rows"]) == 14 and report["failures"] == [], report
END

FAULT=1 expect 1 --build build --output report --rounds 3
has out 'FAILED: test: one, of two'
sed -i 's/error=2e-3/error=None/' build/tools/mi-bench
expect 1 --build build --output report --rounds 3
has out 'FAILED: mi-bench cuda: dense, d 128, 16384 tokens: error None'
printf '#!/bin/bash\necho "mi-bench: CUDA device: none" >&2\nexit 1\n' >build/tools/mi-bench
expect 1 --build build --output report --rounds 3
has out 'FAILED: mi-bench cuda: mi-bench: CUDA device: none'
printf '#!/bin/bash\necho "libgone.so: cannot open" >&2\nexit 127\n' >build/tests/cuda/mi_cuda_device_tests
expect 1 --build build --output report --rounds 3
has out 'libgone.so: cannot open'
