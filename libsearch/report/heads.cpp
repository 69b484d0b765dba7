#include "libsearch/report/heads.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <set>
#include <utility>

#include <fmt/format.h>

namespace mi::search {
namespace {

using runtime::HeadConfig;
using runtime::HeadEntry;
using runtime::Pattern;

std::string per_length_text(std::string_view name, const runtime::PerLength& values,
                            double factor) {
  if (values.empty()) return "";
  std::string out;
  for (const auto& [length, value] : values)
    out += (out.empty() ? "" : "/") +
           (factor == 1 ? fmt::format("{}", value) : fmt::format("{:.6g}", value * factor));
  return fmt::format(", {} {}{}", name, out, factor == 100 ? " %" : "");
}

double dearest_share(const HeadEntry& head) {
  if (head.pattern == Pattern::dense) return 1;
  double dearest = 0;
  for (const auto& [length, share] : head.share) dearest = std::max(dearest, share);
  return dearest;
}

using Parameters = std::array<std::pair<std::string_view, const runtime::PerLength*>, 6>;
Parameters parameters(const HeadEntry& head) {
  return {{{"local", &head.local},
           {"density", &head.density},
           {"share", &head.share},
           {"vertical", &head.vertical},
           {"slash", &head.slash},
           {"blocks", &head.blocks}}};
}

}  // namespace

Result<HeadPlace> parse_place(const std::string& text, const runtime::HeadConfig::Model& model) {
  HeadPlace place;
  const bool lettered = text.starts_with('L');
  const char* const end = text.data() + text.size();
  const auto layer = std::from_chars(text.data() + (lettered ? 1 : 0), end, place.layer);
  if (layer.ec == std::errc() && layer.ptr != end && *layer.ptr == (lettered ? 'H' : '.')) {
    const auto head = std::from_chars(layer.ptr + 1, end, place.head);
    if (head.ec == std::errc() && head.ptr == end && place.layer >= 0 &&
        place.layer < model.layers && place.head >= 0 && place.head < model.heads)
      return place;
  }
  return fail(Code::invalid_argument,
              fmt::format("heads: found {}, expected LAYER.HEAD from 0.0 to {}.{}", text,
                          model.layers - 1, model.heads - 1));
}

std::string place_text(HeadPlace place) {
  return fmt::format("{}.{}", place.layer, place.head);
}

const HeadEntry& entry_at(const HeadConfig& config, HeadPlace place) {
  return config.layers[static_cast<size_t>(place.layer)][static_cast<size_t>(place.head)];
}

std::optional<HeadOrder> head_order_from_string(std::string_view name) {
  if (name == "place") return HeadOrder::place;
  if (name == "recall") return HeadOrder::recall;
  if (name == "share") return HeadOrder::share;
  return std::nullopt;
}

std::vector<HeadPlace> select_heads(const HeadConfig& config, const HeadFilter& filter) {
  std::vector<HeadPlace> places;
  for (size_t layer = 0; layer < config.layers.size(); ++layer) {
    for (size_t head = 0; head < config.layers[layer].size(); ++head) {
      const HeadEntry& entry = config.layers[layer][head];
      if (filter.pattern && entry.pattern != *filter.pattern) continue;
      if (filter.below && !(entry.recall < *filter.below)) continue;
      places.push_back({static_cast<int>(layer), static_cast<int>(head)});
    }
  }
  const auto sort_by = [&](auto key) {
    std::stable_sort(places.begin(), places.end(), [&](HeadPlace a, HeadPlace b) {
      return key(entry_at(config, a)) < key(entry_at(config, b));
    });
  };
  if (filter.order == HeadOrder::recall) sort_by([](const HeadEntry& head) { return head.recall; });
  if (filter.order == HeadOrder::share)
    sort_by([](const HeadEntry& head) { return -dearest_share(head); });
  return places;
}

std::vector<HeadPlace> worst_heads(const HeadConfig& config, size_t most) {
  std::vector<HeadPlace> places = select_heads(config, {.order = HeadOrder::recall});
  places.resize(std::min(places.size(), most));
  return places;
}

std::string parameters_text(const HeadEntry& head) {
  std::string out;
  if (head.pattern == Pattern::block_sparse) {
    out += fmt::format(", {}", to_string(head.estimate));
    if (head.estimate == runtime::BlockEstimate::antidiagonal)
      out += fmt::format(" {}", head.stride);
  }
  if (head.sink != 0) out += fmt::format(", sink {}", head.sink);
  out += per_length_text("local", head.local, 1) + per_length_text("density", head.density, 1);
  out += per_length_text("share", head.share, 100) + per_length_text("vertical", head.vertical, 1);
  out += per_length_text("slash", head.slash, 1) + per_length_text("blocks", head.blocks, 1);
  return out.empty() ? out : out.substr(2);
}

std::vector<HeadPlace> different_heads(const HeadConfig& a, const HeadConfig& b) {
  std::vector<HeadPlace> places = select_heads(a, {});
  std::erase_if(places, [&](HeadPlace place) {
    HeadEntry entry = entry_at(a, place);
    entry.recall = entry_at(b, place).recall;  // measured, not run
    return entry == entry_at(b, place);
  });
  return places;
}

bool differs_by_cap(const HeadEntry& a, const HeadEntry& b) {
  // Without a threshold the share is no cap but what to spend.
  if (a.share == b.share || (a.density.empty() && a.pattern != Pattern::a_shape)) return false;
  HeadEntry entry = a;
  entry.share = b.share;
  entry.recall = b.recall;
  return entry == b;
}

void sort_by_gain(std::vector<HeadPlace>& places, const HeadConfig& a, const HeadConfig& b) {
  const auto gain = [&](HeadPlace place) {
    return entry_at(b, place).recall - entry_at(a, place).recall;
  };
  std::stable_sort(places.begin(), places.end(),
                   [&](HeadPlace x, HeadPlace y) { return gain(x) > gain(y); });
}

std::string heads_csv(const HeadConfig& config, const std::vector<HeadPlace>& places) {
  std::string out = "layer,head,pattern,recall,estimate,stride,sink,length";
  for (const auto& [name, values] : parameters(HeadEntry())) out += fmt::format(",{}", name);
  out += '\n';
  for (const HeadPlace place : places) {
    const HeadEntry& head = entry_at(config, place);
    std::set<int64_t> lengths;
    for (const auto& [name, values] : parameters(head))
      for (const auto& [length, value] : *values)
        if (length != 0) lengths.insert(length);
    if (lengths.empty()) lengths.insert(0);
    const bool blocks = head.pattern == Pattern::block_sparse;
    const bool strided = blocks && head.estimate == runtime::BlockEstimate::antidiagonal;
    for (const int64_t length : lengths) {
      out += fmt::format(
          "{},{},{},{},{},{},{},{}", place.layer, place.head, to_string(head.pattern), head.recall,
          blocks ? to_string(head.estimate) : "", strided ? std::to_string(head.stride) : "",
          head.sink, length == 0 ? "" : std::to_string(length));
      for (const auto& [name, values] : parameters(head)) {
        const auto own = values->find(length);
        const auto found = own != values->end() ? own : values->find(0);
        out += found == values->end() ? "," : fmt::format(",{}", found->second);
      }
      out += '\n';
    }
  }
  return out;
}

}  // namespace mi::search
