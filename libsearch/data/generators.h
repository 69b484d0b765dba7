// One function per kind of sample. Each gives exactly `length` tokens or an error.
#pragma once

#include <cstdint>
#include <random>

#include "kernels/status.h"
#include "libsearch/data/filler.h"
#include "libsearch/data/sample.h"

namespace mi::search {

// Raw output of a generator that the standard fixes, without std distributions, which it does not.
class SampleRandom {
 public:
  SampleRandom(uint64_t seed, int64_t length)
      : engine_(seed ^ mix(static_cast<uint64_t>(length))) {}
  // 0 .. bound-1; the bias of % is below 2^-40 for all bounds used here.
  uint64_t below(uint64_t bound) { return engine_() % bound; }

 private:
  // splitmix64's finaliser: neighbouring lengths and seeds give unrelated streams.
  static uint64_t mix(uint64_t x) {
    x += 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
  }
  std::mt19937_64 engine_;
};

struct Draft {
  Ids ids;
  int64_t answer_begin = 0;
  int64_t answer_end = 0;
};
// seed: the spec's with the run's added.
using Generator = Result<Draft> (*)(const SampleSpec& spec, int64_t length, uint64_t seed,
                                    const Tokenizer& tokenizer);

[[nodiscard]] Result<Draft> make_text(const SampleSpec& spec, int64_t length, uint64_t seed,
                                      const Tokenizer& tokenizer);
[[nodiscard]] Result<Draft> make_kv_retrieval(const SampleSpec& spec, int64_t length, uint64_t seed,
                                              const Tokenizer& tokenizer);
[[nodiscard]] Result<Draft> make_needle(const SampleSpec& spec, int64_t length, uint64_t seed,
                                        const Tokenizer& tokenizer);
[[nodiscard]] Result<Draft> make_repeat(const SampleSpec& spec, int64_t length, uint64_t seed,
                                        const Tokenizer& tokenizer);

// "length 12: a kv_retrieval sample needs at least 140 tokens".
[[nodiscard]] Failure length_too_small(const SampleSpec& spec, int64_t length, int64_t least);

}  // namespace mi::search
