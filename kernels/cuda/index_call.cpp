#include "kernels/cuda/index_call.h"

#include <algorithm>
#include <string>

namespace mi::kernels::cuda {
namespace {

constexpr size_t kAlignment = 256;  // as cudaMalloc's

// The arrays of a call from `workspace` on; returns their bytes.
size_t place(IndexCall& call, std::byte* workspace) {
  size_t bytes = 0;
  const auto take = [&]<class T>(T*& array, int64_t count) {
    array = workspace == nullptr ? nullptr : reinterpret_cast<T*>(workspace + bytes);
    const size_t of_array = static_cast<size_t>(count) * sizeof(T);
    bytes += (of_array + kAlignment - 1) / kAlignment * kAlignment;
  };
  take(call.totals, 1);
  take(call.items, call.size.blocks);
  take(call.selections, call.size.blocks);
  take(call.missing, call.size.blocks);
  take(call.order, 2 * call.size.blocks);
  take(call.runs, call.size.runs);
  take(call.columns, call.size.columns);
  return bytes;
}

}  // namespace

IndexSize index_size(std::span<const RowBlock> blocks) {
  IndexSize size{.blocks = static_cast<int64_t>(blocks.size())};
  for (const RowBlock& of : blocks) {
    const int64_t keys = of.keys_end;
    size.most_tiles =
        std::max(size.most_tiles, static_cast<int32_t>((keys + kKeyTile - 1) / kKeyTile));
    if (of.keys == nullptr) continue;
    // The shortest runs, one key apart; the longest stretches that are none, one key apart.
    size.runs += (keys + 1) / (kShortestRun + 1);
    size.columns += keys - keys / kShortestRun;
  }
  return size;
}

size_t index_bytes(const IndexSize& size) {
  IndexCall call{.size = size};
  return place(call, nullptr);
}

Result<IndexCall> index_call(const RowBlock* blocks, const IndexSize& size, void* workspace,
                             size_t workspace_bytes) {
  if (size.blocks < 0 || size.blocks > INT32_MAX || size.runs < 0 || size.columns < 0 ||
      size.most_tiles < 0)
    return fail(Code::invalid_argument,
                "index: got " + std::to_string(size.blocks) + " row blocks, " +
                    std::to_string(size.runs) + " runs, " + std::to_string(size.columns) +
                    " columns, " + std::to_string(size.most_tiles) +
                    " tiles, expected none negative and at most 2147483647 row blocks");
  if (workspace == nullptr || reinterpret_cast<uintptr_t>(workspace) % kAlignment != 0)
    return fail(Code::invalid_argument,
                "index workspace: got a pointer that is null or not aligned to 256 bytes");
  if (workspace_bytes < index_bytes(size))
    return fail(Code::invalid_argument, "index workspace: got " + std::to_string(workspace_bytes) +
                                            " bytes, the index needs " +
                                            std::to_string(index_bytes(size)));
  IndexCall call{.blocks = blocks, .size = size};
  place(call, static_cast<std::byte*>(workspace));
  return call;
}

}  // namespace mi::kernels::cuda
