#include "tools/outputs.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <system_error>

#include <fmt/format.h>

#include "libruntime/atomic_file.h"

namespace mi::tools {
namespace {

namespace fs = std::filesystem;

// What was written into a model's folder may be written again.
bool is_named_as_output(const fs::path& file) {
  constexpr std::array<std::string_view, 4> kOutputs = {".yaml", ".h5", ".part", ".html"};
  return std::find(kOutputs.begin(), kOutputs.end(), file.extension().string()) != kOutputs.end();
}

bool is_input(const fs::path& output, const fs::path& input) {
  std::error_code error;
  if (!fs::is_directory(input, error)) return runtime::is_same_file(output, input);
  for (fs::directory_iterator at(input, error), end; !error && at != end; at.increment(error))
    if (!is_named_as_output(at->path()) && runtime::is_same_file(output, at->path())) return true;
  return false;
}

}  // namespace

Status check_outputs(const std::vector<fs::path>& outputs, const std::vector<fs::path>& inputs) {
  for (const fs::path& output : outputs)
    for (const fs::path& input : inputs)
      if (!output.empty() && !input.empty() && is_input(output, input))
        return fail(
            Code::invalid_argument,
            fmt::format("output: {} is also an input, expected another file", output.string()));
  return {};
}

}  // namespace mi::tools
