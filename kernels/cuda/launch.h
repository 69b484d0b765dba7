// Attention, estimates, selection, the index build and a decoder's rows on a CUDA device (compute
// capability 8.0 or later). The kernels have been run by the emulator of tests/cuda only, never on
// hardware.
#pragma once

#include <cstdint>

#include "kernels/cuda/attend_call.h"
#include "kernels/cuda/decoder_call.h"
#include "kernels/cuda/index_call.h"
#include "kernels/cuda/select_call.h"
#include "kernels/cuda/estimate_call.h"
#include "kernels/half.h"
#include "kernels/status.h"

struct CUstream_st;

namespace mi::kernels::cuda {

// Whether the kernel can run on such a sequence: lengths, alignment of pointers and strides. `of`
// is the host's copy of what AttendCall::sequences points to. Errors: invalid_argument,
// unsupported.
template <class T>
Status check_sequence(const Sequence<T>& of);

// Attends `items` row blocks, call.items[0 .. items), in one launch on the caller's stream; o and
// lse are complete when the stream gets there. Allocates nothing and waits for nothing. T is bf16
// or f16; head_dim one of kHeadDims; what `call` points to must live until the launch is done.
// Errors: invalid_argument, unsupported (head_dim), device (no driver, no device, one that is too
// old or has too little shared memory, a refused launch).
template <class T>
Status launch_attend(const AttendCall<T>& call, int64_t items, int head_dim, CUstream_st* stream);

// Write codes as launch_attend attends: same stream, same types, same errors. Stripes in one
// launch, vertical and slash in four.
template <class T>
Status launch_stripes(const EstimateCall<T>& call, int head_dim, CUstream_st* stream);
template <class T>
Status launch_vertical(const VerticalCall<T>& call, int head_dim, CUstream_st* stream);
template <class T>
Status launch_pooled(const PooledCall<T>& call, CUstream_st* stream);
template <class T>
Status launch_antidiagonal(const AntidiagonalCall<T>& call, int head_dim, CUstream_st* stream);

// Selects the keys of all row blocks from codes that are there, in two launches, or four where
// heads share a cap; same stream, same errors as launch_attend.
Status launch_select(const SelectCall& call, bool shares_cap, CUstream_st* stream);
// Finds thresholds from codes that are bins, in two launches.
Status launch_spend(const SpendCall& call, CUstream_st* stream);
Status launch_report(const ReportCall& call, CUstream_st* stream);
Status launch_put(const PutCall& call, CUstream_st* stream);

// Builds the index of a call made by index_call, in three launches, as launch_attend attends: same
// stream, same errors. items, selections, runs and columns are then what AttendCall takes, with
// size.blocks items.
Status launch_index(const IndexCall& call, CUstream_st* stream);

// What a decoder layer does between its matrix products; same stream, same errors. T is bf16 or
// float.
template <class T>
Status launch_norm(const NormCall<T>& call, CUstream_st* stream);
Status launch_add(const AddCall& call, CUstream_st* stream);
Status launch_rotate(const RotateCall& call, CUstream_st* stream);
Status launch_activate(const ActivateCall& call, CUstream_st* stream);

}  // namespace mi::kernels::cuda
