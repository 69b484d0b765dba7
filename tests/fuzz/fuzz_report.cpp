// Any bytes: the reader of score reports gives one error, or a report that is whole in itself.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "libsearch/report/report_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto report = mi::search::parse_report(bytes, "fuzz");
  if (!report) {
    if (report.error().what.find("fuzz") == std::string::npos) std::abort();
    return 0;
  }
  if (report->table.samples.size() > report->samples.size()) std::abort();
  for (const auto& sample : report->table.samples)
    for (const auto& layer : sample.layers)
      for (const auto& head : layer)
        if (head.size() != report->space.candidates()) std::abort();
  return 0;
}
