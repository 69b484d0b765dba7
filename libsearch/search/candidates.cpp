#include "libsearch/search/candidates.h"

#include <cmath>

#include <fmt/format.h>

namespace mi::search {
namespace {

using runtime::BlockEstimate;
using runtime::EstimatorParams;
using runtime::Pattern;

// first * ratio^i, rounded to four significant digits so that the YAML is short and exact.
std::vector<double> geometric(double first, double ratio, int count) {
  std::vector<double> values;
  for (int i = 0; i < count; ++i)
    values.push_back(std::stod(fmt::format("{:.4g}", first * std::pow(ratio, i))));
  return values;
}

std::vector<double> rounded(std::vector<double> values) {
  for (double& value : values) value = std::max(1.0, std::round(value));
  return values;
}

// e sums to 64 per row block: density 4 takes the few keys that hold most of the mass, 1/1024 is
// an eighth of what uniform attention gives each of 8192 keys.
std::vector<double> densities() {
  return geometric(4, 1 / std::sqrt(2.0), 25);
}

Family density_family(Pattern pattern, int64_t sink, int64_t local) {
  Family family;
  family.params.pattern = pattern;
  family.params.sink = sink;
  family.params.local = local;
  family.values = densities();
  return family;
}

Family counts_family(double vertical, double slash, std::vector<double> factors) {
  Family family;
  family.params.pattern = Pattern::vertical_slash;
  family.params.counts = true;
  family.params.vertical = vertical;
  family.params.slash = slash;
  family.values = std::move(factors);
  return family;
}

Family a_shape_family(int64_t sink, std::vector<double> windows) {
  Family family;
  family.params.pattern = Pattern::a_shape;
  family.params.sink = sink;
  family.values = std::move(windows);
  return family;
}

}  // namespace

float Family::lambda(size_t candidate) const {
  const double value = values[candidate];
  if (params.pattern == Pattern::a_shape) return 1.0f / static_cast<float>(value);
  if (params.counts) return static_cast<float>(1 / value);
  return static_cast<float>(value);
}

runtime::HeadEntry Family::entry() const {
  runtime::HeadEntry entry;
  entry.pattern = params.pattern;
  entry.sink = params.counts ? 0 : params.sink;
  if (params.pattern == Pattern::block_sparse) {
    entry.estimate = params.estimate;
    entry.stride = params.stride;
  }
  if (!params.counts && params.pattern != Pattern::a_shape)
    entry.local = {{0, static_cast<double>(params.local)}};
  return entry;
}

void Family::set_values(runtime::HeadEntry& entry, size_t candidate, int64_t length) const {
  const double value = values[candidate];
  if (params.pattern == Pattern::a_shape) {
    entry.local[length] = value;
  } else if (params.pattern == Pattern::block_sparse && params.counts) {
    entry.blocks[length] = value;
  } else if (params.counts) {
    // The counts that the threshold 1/factor keeps: ranks with rank + 1/2 < count * factor.
    entry.vertical[length] = std::max(0.0, std::ceil(params.vertical * value - 0.5));
    entry.slash[length] = std::max(0.0, std::ceil(params.slash * value - 0.5));
  } else {
    entry.density[length] = value;
  }
}

std::string Family::describe(size_t candidate) const {
  const double value = values[candidate];
  if (params.pattern == Pattern::a_shape) return fmt::format("a_shape({}, {})", params.sink, value);
  std::string name(runtime::to_string(params.pattern));
  if (params.pattern == Pattern::block_sparse)
    name += fmt::format(".{}", runtime::to_string(params.estimate));
  if (params.pattern == Pattern::block_sparse && params.counts)
    return fmt::format("{}(blocks {})", name, value);
  if (params.counts)
    return fmt::format("{}({} x {}, {} x {})", name, value, params.vertical, value, params.slash);
  return fmt::format("{}(density {:.4g}, sink {}, local {})", name, value, params.sink,
                     params.local);
}

size_t CandidateSpace::candidates() const {
  size_t count = 1;
  for (const Family& family : families) count += family.values.size();
  return count;
}

CandidateId candidate_id(const CandidateSpace& space, size_t candidate) {
  for (size_t f = 0; f < space.families.size(); ++f) {
    if (candidate < space.families[f].values.size()) return {f, candidate};
    candidate -= space.families[f].values.size();
  }
  return {space.families.size(), 0};
}

// Tiles are filled, so that little need be forced. On SmolLM2 (4096 and 8192 tokens, 10 to 15 %)
// each family here saves 0.4 to 10 % of the loss; the published counts saved 0.3 % together.
CandidateSpace default_candidates() {
  CandidateSpace space;
  space.families.push_back(a_shape_family(
      4, {32, 64, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192}));
  space.families.push_back(density_family(Pattern::vertical_slash, 4, 0));
  space.families.push_back(density_family(Pattern::stripe, 16, 128));
  space.families.push_back(density_family(Pattern::stripe, 4, 32));
  space.families.push_back(density_family(Pattern::stripe, 4, 0));
  space.families.push_back(density_family(Pattern::stripe_vertical_slash, 16, 128));
  space.families.push_back(density_family(Pattern::stripe_vertical_slash, 4, 16));
  space.families.push_back(density_family(Pattern::block_sparse, 4, 0));
  Family antidiagonal = density_family(Pattern::block_sparse, 4, 0);
  antidiagonal.params.estimate = BlockEstimate::antidiagonal;
  antidiagonal.params.stride = 16;
  space.families.push_back(antidiagonal);
  return space;
}

// Fine enough (1/16 octave) that the common factor spends a limit to about 2 %.
std::vector<double> published_factors() {
  return geometric(0.03125, std::pow(2.0, 1.0 / 16), 129);
}

CandidateSpace published_candidates(int64_t length) {
  CandidateSpace space;
  const auto factors = published_factors();
  const auto scaled = [&](double count) {
    std::vector<double> values;
    for (double factor : factors) values.push_back(count * factor);
    return rounded(values);
  };
  space.families.push_back(a_shape_family(100, scaled(800)));
  space.families.push_back(counts_family(30, 800, factors));
  space.families.push_back(counts_family(100, 750, factors));
  space.families.push_back(counts_family(500, 700, factors));
  space.families.push_back(counts_family(3500, 100, factors));
  Family blocks;
  blocks.params.pattern = Pattern::block_sparse;
  blocks.params.counts = true;
  blocks.values = scaled(static_cast<double>(length) / 64 / 8);
  space.families.push_back(blocks);
  return space;
}

}  // namespace mi::search
