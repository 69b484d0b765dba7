// Part of the config reader: one head's entry, whose legal keys depend on its pattern and form.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "libruntime/config.h"
#include "libruntime/yaml_reader.h"

namespace mi::runtime {

inline constexpr int64_t kMaxTokens = int64_t{1} << 40;

// {4096: 0.012, 32768: 0.004}: keys are calibrated lengths.
[[nodiscard]] std::map<int64_t, double> read_by_length(const YamlNode& node,
                                                       const std::vector<int64_t>& lengths,
                                                       RealRange range, YamlErrors& errors);
[[nodiscard]] HeadEntry read_head(const YamlMap& map, const std::vector<int64_t>& lengths,
                                  YamlErrors& errors);

}  // namespace mi::runtime
