// The heads of a head-config: one by its place, those that are asked for in the order asked for,
// and as text and as rows for a spreadsheet.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "libruntime/config.h"

namespace mi::search {

struct HeadPlace {
  int layer = 0;
  int head = 0;
  friend bool operator==(const HeadPlace&, const HeadPlace&) = default;
};
// "3.7", or "L3H7": layer 3, head 7 of the model; else Code::invalid_argument naming what was
// expected.
[[nodiscard]] Result<HeadPlace> parse_place(const std::string& text,
                                            const runtime::HeadConfig::Model& model);
// "3.7".
[[nodiscard]] std::string place_text(HeadPlace place);
[[nodiscard]] const runtime::HeadEntry& entry_at(const runtime::HeadConfig& config,
                                                 HeadPlace place);

enum class HeadOrder { place, recall, share };  // layer by layer; worst first; dearest first
// "place", "recall", "share".
[[nodiscard]] std::optional<HeadOrder> head_order_from_string(std::string_view name);
struct HeadFilter {
  HeadOrder order = HeadOrder::place;
  std::optional<runtime::Pattern> pattern = std::nullopt;  // only these
  std::optional<double> below = std::nullopt;              // only heads whose recall is below
};
// Of equals the one of the lowest layer and head is first. A head's share is its dearest length's
// cap; of a dense head 1, of one that has no share 0.
[[nodiscard]] std::vector<HeadPlace> select_heads(const runtime::HeadConfig& config,
                                                  const HeadFilter& filter);
// Heads by recall, worst first.
inline constexpr size_t kWorstHeads = 10;  // that tables and the page name
[[nodiscard]] std::vector<HeadPlace> worst_heads(const runtime::HeadConfig& config, size_t most);

// Of two configs of one shape: heads whose pattern or parameters are not the same.
[[nodiscard]] std::vector<HeadPlace> different_heads(const runtime::HeadConfig& a,
                                                     const runtime::HeadConfig& b);
// Whether two entries differ, and only in the caps on what they may spend.
[[nodiscard]] bool differs_by_cap(const runtime::HeadEntry& a, const runtime::HeadEntry& b);
// Most recall gained from a to b first; of equals the order stays.
void sort_by_gain(std::vector<HeadPlace>& places, const runtime::HeadConfig& a,
                  const runtime::HeadConfig& b);

// "sink 16, local 128, density 0.012/0.004": values per calibrated length divided by '/'.
[[nodiscard]] std::string parameters_text(const runtime::HeadEntry& head);
// A header and a line per head and length that it has a value of its own for; what a pattern does
// not have is empty, as is the length where one value holds for all.
[[nodiscard]] std::string heads_csv(const runtime::HeadConfig& config,
                                    const std::vector<HeadPlace>& places);

}  // namespace mi::search
