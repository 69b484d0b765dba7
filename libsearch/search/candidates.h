// The candidate space: families of nested selections. A family is one estimate with a list of
// thresholds; a candidate is a family at one threshold.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "kernels/status.h"
#include "libruntime/config.h"
#include "libruntime/estimator.h"

namespace mi::search {

struct Family {
  runtime::EstimatorParams params;
  // What each candidate is called in a head-config, cheapest first: densities (falling), local
  // windows of a_shape, block counts, or factors on (vertical, slash).
  std::vector<double> values;

  // Thresholds on the estimate, falling: candidate i selects e > lambda(i).
  [[nodiscard]] float lambda(size_t candidate) const;
  // A config entry of this family, without its per-length values.
  [[nodiscard]] runtime::HeadEntry entry() const;
  // Records candidate's parameters for a prompt length.
  void set_values(runtime::HeadEntry& entry, size_t candidate, int64_t length) const;
  [[nodiscard]] std::string describe(size_t candidate) const;
  friend bool operator==(const Family&, const Family&) = default;
};

struct CandidateSpace {
  std::vector<Family> families;
  // Dense attention is always one more candidate, after those of the families.
  [[nodiscard]] size_t candidates() const;
  friend bool operator==(const CandidateSpace&, const CandidateSpace&) = default;
};

// Candidates are numbered through the families in order, dense last.
struct CandidateId {
  size_t family = 0;  // families.size(): dense
  size_t index = 0;
};
[[nodiscard]] CandidateId candidate_id(const CandidateSpace& space, size_t candidate);

// What calib_data/candidates.yaml says as well (a test keeps them equal).
[[nodiscard]] CandidateSpace default_candidates();
// The candidates of the published method (MInference 1.0's code): four vertical_slash lines, an
// eighth of the key blocks, one a_shape, each times a common factor; family i at candidate c has
// published_factors()[c].
[[nodiscard]] CandidateSpace published_candidates(int64_t length);
[[nodiscard]] std::vector<double> published_factors();

[[nodiscard]] Result<CandidateSpace> load_candidates(const std::filesystem::path& path);
[[nodiscard]] Result<CandidateSpace> parse_candidates(std::string_view yaml, std::string_view file);
// parse(dump(space)) == space.
[[nodiscard]] std::string dump_candidates(const CandidateSpace& space);

}  // namespace mi::search
