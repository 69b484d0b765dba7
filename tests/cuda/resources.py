#!/usr/bin/env python3
"""Registers, shared memory, spills and occupancy of the CUDA kernels, as ptxas tells them,
against the committed table. usage: resources.py ROOT CXX TABLE [NVCC]

Prints the table as it is now. Exits 1 if anything spills at head dimension 64 or 128 or of none,
fewer blocks fit on a multiprocessor than the table says or a line is missing, and, with the compiler
that the table is of, if any number differs; 77 without NVCC. What is occupied follows from registers and
shared memory (CUDA C++ programming guide, compute capabilities); nothing has been measured.
"""
import pathlib
import re
import subprocess
import sys
import tempfile

HEAD_DIMS = (64, 80, 96, 128, 256)
# Per multiprocessor: shared memory in KiB, warps and blocks. Registers are 65536 everywhere, given to
# warps by 256; a block takes 1 KiB of shared memory more than it asks for.
DEVICES = {'80': (164, 64, 32), '90a': (228, 64, 32), '120': (100, 48, 24)}
WARPS = 4
OTHER_WARPS = {'order_items': 16, 'raise_thresholds': 1, 'find_threshold': 8}
# Shared memory of the kernels of a head dimension, and by source of those of none ('-').
BY_HEAD_DIM = {'attend': 'TileShape<{}>::kBytes', 'stripe': 'StripeShape<{}>::kBytes',
               'vertical_sums': 'VerticalShape<{}>::kBytes',
               'vertical_rows': 'VerticalShape<{}>::kBytes',
               'antidiagonal': 'AntidiagonalShape<{}>::kBytes'}
OF_NONE = {
    'decoder.cu': {'norm_bf16': 'kRowSumBytes', 'norm_f32': 'kRowSumBytes', 'add': 'kRowSumBytes',
                   'rotate': '0', 'activate': '0'},
    'index.cu': {'count_keys': 'IndexShape::kBytes', 'order_items': 'IndexShape::kOrderBytes',
                 'write_keys': 'IndexShape::kBytes'},
    'estimate.cu': {'vertical_evidence': 'kDiagonalBytes', 'key_means': '0',
                    'vertical_codes': '0', 'pooled': 'PooledShape::kBytes'},
    'select.cu': {'count_tiles': 'SelectShape::kCutBytes',
                  'find_threshold': 'SelectShape::kThresholdBytes',
                  'find_cuts': 'SelectShape::kCutBytes',
                  'add_tiles': 'SelectShape::kSelectBytes', 'raise_thresholds': '0',
                  'select_keys': 'SelectShape::kSelectBytes',
                  'report_heads': 'SelectShape::kSelectBytes'},
}


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f'{" ".join(map(str, command))}:\n{done.stdout}{done.stderr}')
    return done.stdout + done.stderr


def shared_bytes(root, cxx, folder):
    """Of each kernel and head dimension, from the shapes themselves."""
    source = folder / 'shared.cpp'
    kernels = {(name, dim): of.format(dim) for name, of in BY_HEAD_DIM.items() for dim in HEAD_DIMS}
    kernels.update({(name, '-'): of for source in OF_NONE.values() for name, of in source.items()})
    source.write_text('#include <cstdio>\n#include "kernels/cuda/tile_shape.h"\n'
        'using namespace mi::kernels::cuda;\nint main() {\n' + ''.join(
        f'std::printf("%u\\n", uint32_t{{{of}}});\n' for of in kernels.values()) + '}\n')
    run(cxx, '-std=c++20', '-I', root, source, '-o', folder / 'shared')
    return dict(zip(kernels, map(int, run(folder / 'shared').split())))


def blocks(device, registers, shared, warps_of_block):
    shared_kib, warps, most = DEVICES[device]
    by_registers = 65536 // (-(-registers * 32 // 256) * 256) // warps_of_block
    return min(by_registers, shared_kib * 1024 // (shared + 1024), warps // warps_of_block, most)


def lines_of(nvcc, root, folder, source, names, dim, shared):
    targets = [f'-gencode=arch=compute_{sm},code=sm_{sm}' for sm in DEVICES]
    log = run(nvcc, '-std=c++20', '-O3', '-I', root, '-Xptxas', '-v', *targets, '-fatbin', source,
              '-o', folder / 'fatbin')
    found = re.findall(rf"entry function '(\w+?\d({'|'.join(names)})\w*)' for 'sm_(\w+)'.*?"
                       r'(\d+) bytes spill stores.*?Used (\d+) registers', log, re.S)
    for symbol, name, sm, spilled, registers in sorted(found, key=lambda of: of[1:3]):
        if re.search('(?<!b)f16', symbol):
            continue
        fit = blocks(sm, int(registers), shared[name, dim], OTHER_WARPS.get(name, WARPS))
        yield f'{name} {sm} {dim} {registers} {shared[name, dim]} {spilled} {fit}'


def table(root, cxx, nvcc, folder):
    shared = shared_bytes(root, cxx, folder)
    text = (root / 'kernels/cuda/kernels.cu.in').read_text()
    lines = ['# kernel sm head_dim registers shared_bytes spilled_bytes blocks_per_multiprocessor, of '
             + re.search(r'release [\d.]+', run(nvcc, '--version')).group()]
    for dim in HEAD_DIMS:
        source = folder / f'{dim}.cu'
        # Elements differ in one instruction of the same shape: bf16 speaks for f16, everywhere.
        source.write_text(text.replace('@MI_ELEMENT@', 'bf16').replace('@MI_HEAD_DIM@', str(dim)))
        lines += lines_of(nvcc, root, folder, source, BY_HEAD_DIM, dim, shared)
    for name, kernels in OF_NONE.items():
        lines += lines_of(nvcc, root, folder, root / 'kernels/cuda' / name, kernels, '-', shared)
    return lines


def compare(got, want):
    """What is wrong, a line each."""
    wrong = []
    same_compiler = got[0] == want[0]
    of = {tuple(line.split()[:3]): line.split()[3:] for line in got[1:]}
    for line in want[1:]:
        *kernel, registers, shared, spilled, fit = line.split()
        name = f'{kernel[0]}, sm_{kernel[1]}, head_dim {kernel[2]}'
        now = of.pop(tuple(kernel), None)
        if now is None:
            wrong.append(f'{name}: no such kernel any more')
            continue
        if int(now[3]) < int(fit) or (same_compiler and now != [registers, shared, spilled, fit]):
            wrong.append(f'{name}: got {" ".join(now)}, the table says '
                         f'{registers} {shared} {spilled} {fit}')
        if kernel[2] in ('64', '128', '-') and now[2] != '0':
            wrong.append(f'{name}: {now[2]} bytes are spilled')
    return wrong + [f'{" ".join(kernel)}: not in the table' for kernel in of]


def main():
    root, cxx, committed = pathlib.Path(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3])
    if len(sys.argv) < 5:
        print('SKIPPED: no CUDA compiler')
        sys.exit(77)
    with tempfile.TemporaryDirectory() as folder:
        now = table(root, cxx, sys.argv[4], pathlib.Path(folder))
    print('\n'.join(now))
    wrong = compare(now, committed.read_text().splitlines())
    if wrong:
        sys.exit('\n'.join(wrong))


main()
