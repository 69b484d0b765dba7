// What a search found before any limit was asked for: every candidate of every head scored on every
// calibration sample, with all that a head-config says about its making. Configs of any limit are
// allocated from it; a search that was stopped goes on from it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "libruntime/config.h"
#include "libsearch/search/candidates.h"
#include "libsearch/search/head_pictures.h"
#include "libsearch/search/score_table.h"

namespace mi::search {

struct ScoreReport {
  runtime::HeadConfig::Model model;
  std::string backend;
  std::string
      options;  // what the user asked of the scoring: recipe, lengths, candidates, precision
  uint64_t seed = 0;
  int64_t last = 64;    // ComputeOptions
  bool extras = false;  // likewise
  CandidateSpace space;
  std::vector<runtime::SampleNote> samples, held_out;
  std::vector<std::string> warnings;     // of the samples
  ScoreTable table;                      // of the first of `samples`, or of all
  std::optional<HeadPictures> pictures;  // of the config that the search itself wrote

  // Leaves out the samples of other lengths; a length without samples is an error.
  [[nodiscard]] Status keep_lengths(std::span<const int64_t> lengths);
  [[nodiscard]] bool complete() const { return table.samples.size() == samples.size(); }
  // What makes the scores of two reports differ, as "model: found a, expected b"; empty if nothing.
  [[nodiscard]] std::string difference(const ScoreReport& expected) const;
};

}  // namespace mi::search
