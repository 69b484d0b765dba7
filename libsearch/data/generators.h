// One function per kind of sample. Each gives exactly `length` tokens or an error.
#pragma once

#include <array>
#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <vector>

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

[[nodiscard]] Result<Draft> make_multi_key(const SampleSpec& spec, int64_t length, uint64_t seed,
                                           const Tokenizer& tokenizer);
[[nodiscard]] Result<Draft> make_multi_query(const SampleSpec& spec, int64_t length, uint64_t seed,
                                             const Tokenizer& tokenizer);
[[nodiscard]] Result<Draft> make_variable_tracking(const SampleSpec& spec, int64_t length,
                                                   uint64_t seed, const Tokenizer& tokenizer);

// Exactly `room` tokens of the spec's texts: paragraphs from a random one on, going round, the last
// cut.
[[nodiscard]] Result<std::vector<Ids>> make_hay(const SampleSpec& spec, int64_t room,
                                                SampleRandom& random, const Tokenizer& tokenizer);
// The paragraph that begins nearest to this fraction of the hay; one past the last is its end.
[[nodiscard]] size_t place_at(const std::vector<Ids>& hay, double depth);
// Something to be put before the hay's paragraph `place`, so that it interrupts no sentence.
struct Fact {
  size_t place = 0;
  Ids ids;
};
// Hay and facts as one text; facts of one place in the order given.
[[nodiscard]] Ids hide(const std::vector<Ids>& hay, const std::vector<Fact>& facts);

// Hay with the facts, the question and its answer, which ends the sample.
[[nodiscard]] Draft ask(Ids text, const Ids& question, const Ids& answer);

// "Oslo": names that a small model knows as one or two tokens.
inline constexpr std::array<std::string_view, 24> kCities = {
    "Oslo",   "Lima",   "Cairo",  "Paris",   "Tokyo",  "Rome",   "Berlin", "Madrid",
    "Vienna", "Dublin", "Athens", "Lisbon",  "London", "Moscow", "Sydney", "Boston",
    "Dallas", "Denver", "Havana", "Jakarta", "Kyoto",  "Mumbai", "Prague", "Warsaw"};
// "The secret number of Oslo is 48213." and what asks for it.
struct Secret {
  std::string subject;  // "secret number of Oslo"
  std::string number;
  [[nodiscard]] Result<Ids> fact(const Tokenizer& tokenizer) const;
  [[nodiscard]] Result<Ids> question(const Tokenizer& tokenizer) const;
  [[nodiscard]] Result<Ids> answer(const Tokenizer& tokenizer) const;
};
[[nodiscard]] std::string secret_number_of(std::string_view city);
[[nodiscard]] std::string random_digits(SampleRandom& random, int count);

// "length 12: a kv_retrieval sample needs at least 140 tokens".
[[nodiscard]] Failure length_too_small(const SampleSpec& spec, int64_t length, int64_t least);

}  // namespace mi::search
