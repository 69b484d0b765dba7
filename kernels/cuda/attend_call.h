// What one launch of the CUDA attention kernel is about: the row blocks of all heads of a layer, of
// several sequences, each over every key or over a selection of its own. Plain structs, read by the
// device as they are. Notation as in kernels/attention.h.
#pragma once

#include <cstdint>

#include "kernels/attention.h"

// Functions that host and device call.
#ifdef __CUDACC__
#define MI_BOTH __host__ __device__
#else
#define MI_BOTH
#endif

namespace mi::kernels::cuda {

// A tensor [tokens, heads, head_dim] of any order: element x of token t and head h is
// data[t * token_stride + h * head_stride + x]. The kernel copies 16 bytes at a time: data is
// 16-byte aligned and both strides (in elements) are multiples of 8.
template <class T>
struct Strided {
  T* data = nullptr;
  int64_t token_stride = 0;
  int64_t head_stride = 0;

  [[nodiscard]] MI_BOTH Strided of_head(int64_t head) const {
    return {data + head * head_stride, token_stride, head_stride};
  }
  [[nodiscard]] MI_BOTH T* row(int64_t token) const { return data + token * token_stride; }
};

// Queries are the last n_q of n_kv positions: row i attends keys j <= i + n_kv - n_q.
template <class T>
struct Sequence {
  Strided<const T> q;           // [n_q, heads, head_dim]
  Strided<const T> k;           // [n_kv, kv_heads, head_dim]
  Strided<const T> v;           // [n_kv, kv_heads, head_dim]
  Strided<T> o;                 // [n_q, heads, head_dim]
  float* lse = nullptr;         // [heads, n_q], natural log; may be null
  int64_t lse_head_stride = 0;  // in elements
  int64_t n_q = 0;              // 1 .. n_kv
  int64_t n_kv = 0;             // at most 2^31 - 1
};

// Keys that lie together; position counts keys of the runs before it, so a tile of keys may begin
// and end inside a run.
struct KeyRun {
  int32_t key = 0;
  int32_t position = 0;
};

// The keys of one row block: those of its runs, then its columns. Ascending and disjoint within
// each; all of them below the block's keys_end.
struct Selection {
  int64_t first_run = 0;     // index into AttendCall::runs
  int64_t first_column = 0;  // index into AttendCall::columns
  int32_t runs = 0;
  int32_t run_keys = 0;  // keys in runs
  int64_t columns = 0;
};

inline constexpr int32_t kEveryKey = -1;

// One row block of 64 query rows of one head.
struct WorkItem {
  int32_t sequence = 0;
  int32_t head = 0;
  int32_t block = 0;
  int32_t selection = kEveryKey;  // index into AttendCall::selections
};

// All pointers are to device memory.
template <class T>
struct AttendCall {
  const Sequence<T>* sequences = nullptr;
  const WorkItem* items = nullptr;  // longest first, so that the last ones to end are short
  const Selection* selections = nullptr;
  const KeyRun* runs = nullptr;
  const int32_t* columns = nullptr;
  int32_t heads_per_kv = 1;
  float scale = 0;    // multiplies q.k
  float softcap = 0;  // s <- softcap*tanh(s/softcap); 0: none
};

}  // namespace mi::kernels::cuda
