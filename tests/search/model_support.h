// What the tests of the model share: files in a folder of their own, bytes by hand, attention.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "kernels/backend.h"
#include "libruntime/config.h"
#include "libsearch/model/model.h"
#include "tests/support.h"
#include "tests/temporary_folder.h"

namespace mi::search {

inline const std::filesystem::path kTestData = MI_TEST_DATA;

using test::TemporaryFolder;

inline const Model& tiny_model() {
  static const auto model = Model::open(kTestData / "tiny-llama");
  if (!model) throw std::runtime_error(model.error().what);
  return **model;
}

inline std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + path.string());
  return {std::istreambuf_iterator<char>(file), {}};
}

inline void write_file(const std::filesystem::path& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary)
      .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

// A binary file field by field.
class ByteWriter {
 public:
  template <class T>
  ByteWriter& put(T value) {
    const auto bytes = std::bit_cast<std::array<char, sizeof(T)>>(value);
    return raw({bytes.data(), bytes.size()});
  }
  ByteWriter& text(std::string_view value) {  // as GGUF writes strings
    put<uint64_t>(value.size());
    return raw(value);
  }
  ByteWriter& raw(std::string_view value) {
    for (const char c : value) bytes_.push_back(static_cast<uint8_t>(c));
    return *this;
  }
  ByteWriter& pad(size_t alignment) {
    while (bytes_.size() % alignment != 0) bytes_.push_back(0);
    return *this;
  }
  [[nodiscard]] const std::vector<uint8_t>& bytes() const { return bytes_; }

 private:
  std::vector<uint8_t> bytes_;
};

// Dense causal attention by the backend that this machine prefers, on all its cores.
inline Status dense_attention(const LayerQkv& layer, TensorView<float, 3> o) {
  const auto backend = kernels::choose_backend();
  if (!backend) return backend.error();
  const int64_t heads = layer.q.extent[0];
  const int64_t group = heads / layer.k.extent[0];
  kernels::AttentionHead shape;
  shape.n_q = shape.n_kv = layer.q.extent[1];
  shape.head_dim = static_cast<int>(layer.q.extent[2]);
  shape.scale = 1 / std::sqrt(static_cast<float>(shape.head_dim));
  shape.q_stride = shape.k_stride = shape.v_stride = layer.q.extent[2];
  const int64_t blocks = shape.row_blocks();
  std::atomic<int64_t> next = 0;
  const auto work = [&] {
    AlignedBuffer<uint8_t> scratch((*backend)->scratch_bytes(shape.head_dim));
    for (int64_t task = next++; task < heads * blocks; task = next++) {
      const int64_t head = task % heads;
      const int64_t block = blocks - 1 - task / heads;  // longest rows first
      kernels::AttentionHead view = shape;
      view.q = layer.q[head].data;
      view.k = layer.k[head / group].data;
      view.v = layer.v[head / group].data;
      (*backend)->attend(view, block, nullptr, o[head][view.first_row(block)].data, shape.head_dim,
                         nullptr, scratch.data());
    }
  };
  std::vector<std::thread> threads;
  for (unsigned i = 1; i < std::thread::hardware_concurrency(); ++i) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
  return {};
}

// Attention a person can read: double precision, row by row. The queries are the last of the keys.
inline Status plain_attention(const LayerQkv& layer, TensorView<float, 3> o, double scale = 0,
                              double softcap = 0) {
  const int64_t dim = layer.q.extent[2];
  const int64_t offset = layer.k.extent[1] - layer.q.extent[1];
  const int64_t group = layer.q.extent[0] / layer.k.extent[0];
  for (int64_t head = 0; head < layer.q.extent[0]; ++head) {
    const auto k = layer.k[head / group];
    const auto v = layer.v[head / group];
    for (int64_t i = 0; i < layer.q.extent[1]; ++i) {
      std::vector<double> out(static_cast<size_t>(dim), 0.0);
      double total = 0;
      const int64_t last = i + offset;
      const int64_t first = layer.window > 0 ? std::max<int64_t>(0, last - layer.window + 1) : 0;
      for (int64_t j = first; j <= last; ++j) {
        double score = 0;
        for (int64_t d = 0; d < dim; ++d) {
          score += static_cast<double>(layer.q[head][i][d]) * static_cast<double>(k[j][d]);
        }
        score *= runtime::attention_scale(scale, static_cast<int>(dim));
        if (softcap > 0) score = softcap * std::tanh(score / softcap);
        const double weight = std::exp(score);
        total += weight;
        for (int64_t d = 0; d < dim; ++d) {
          out[static_cast<size_t>(d)] += weight * static_cast<double>(v[j][d]);
        }
      }
      for (int64_t d = 0; d < dim; ++d) {
        o[head][i][d] = static_cast<float>(out[static_cast<size_t>(d)] / total);
      }
    }
  }
  return {};
}

// The quick start's model: MI_MODEL, or where ./tools/quickstart keeps it. Empty when absent.
inline std::filesystem::path smollm2_path() {
  const char* named = std::getenv("MI_MODEL");
  std::filesystem::path path = named != nullptr ? std::filesystem::path(named)
                                                : std::filesystem::path(MI_SOURCE_DIR) / ".cache" /
                                                      "SmolLM2-135M-Instruct.Q4_1.gguf";
  return std::filesystem::exists(path) ? path : std::filesystem::path();
}

}  // namespace mi::search
