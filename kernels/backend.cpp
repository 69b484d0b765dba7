#include "kernels/backend.h"

#include <algorithm>
#include <array>
#include <cstdlib>

#include "kernels/cpu/cpu_backends.h"
#include "kernels/reference.h"

namespace mi::kernels {

Status Backend::supports(const AttentionHead& head) const {
  if (head.head_dim < 8 || head.head_dim > kMaxHeadDim || head.head_dim % 8 != 0)
    return fail(Code::unsupported, "head_dim: got " + std::to_string(head.head_dim) + ", " +
                                       std::string(name()) + " supports multiples of 8 from 8 to " +
                                       std::to_string(kMaxHeadDim));
  if (head.n_q < 1 || head.n_kv < head.n_q || head.n_kv > INT32_MAX)
    return fail(Code::invalid_argument, "tokens: got n_q " + std::to_string(head.n_q) + ", n_kv " +
                                            std::to_string(head.n_kv) +
                                            ", expected 1 <= n_q <= n_kv <= 2147483647");
  if (!(head.softcap >= 0))
    return fail(Code::invalid_argument, "softcap: got " + std::to_string(head.softcap) +
                                            ", expected 0 (none) or a positive number");
  return {};
}

uint64_t Backend::above(const float* e, int64_t count, float threshold) const {
  uint64_t bits = 0;
  for (int64_t j = 0; j < count; ++j) bits |= static_cast<uint64_t>(e[j] > threshold ? 1 : 0) << j;
  return bits;
}

int64_t Backend::codes_from(const uint8_t* code, int64_t keys, uint8_t threshold,
                            uint64_t* words) const {
  int64_t found = 0;
  if (words != nullptr) std::fill(words, words + bitmap_words(keys), uint64_t{0});
  for (int64_t j = 0; j < keys; ++j) {
    if (code[j] < threshold) continue;
    ++found;
    if (words != nullptr) words[j / 64] |= uint64_t{1} << (j % 64);
  }
  return found;
}

std::span<const Backend* const> all_backends() {
  static const std::array<const Backend*, 6> backends = {
      &cpu_amx::backend(),  &cpu_avx512_bf16::backend(), &cpu_avx512::backend(),
      &cpu_avx2::backend(), &cpu_generic::backend(),     &reference_backend()};
  return backends;
}

Result<const Backend*> choose_backend(std::string_view name) {
  if (name.empty()) {
    const char* forced = std::getenv("MI_BACKEND");
    if (forced != nullptr) name = forced;
  }
  std::string known;
  for (const Backend* backend : all_backends()) {
    known += (known.empty() ? "" : ", ") + std::string(backend->name());
    if (name.empty() ? backend->available() && backend->preferred() : name == backend->name()) {
      MI_CHECK(backend->available());
      return backend;
    }
  }
  return fail(Code::invalid_argument,
              "backend: got \"" + std::string(name) + "\", expected one of " + known);
}

}  // namespace mi::kernels
